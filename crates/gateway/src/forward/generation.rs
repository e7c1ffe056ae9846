//! One answer for several callers: what the replica sends is kept from the first byte on, and every
//! caller reads it from there at its own pace.
//!
//! Bounded: up to a limit everything is kept, so that late callers get all of it. Beyond, nobody joins,
//! what everybody has is dropped, and the generation goes at the pace of the fastest; who is the whole
//! limit behind that one is cut off. When the last caller has left, the generation stops.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use pilotage_core::traffic::Charge;
use pilotage_core::{Span, Tokens};
use pilotage_lens::{Record, Runs, Termination, Timeline};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Price;
use crate::driver::Reason;
use crate::quotas::Lease;
use crate::reply::Refused;
use crate::table::Lane;

/// What equal requests have in common, and nobody else: a SHA-256.
pub(crate) type Key = [u8; 32];

/// An answer that is being made, and who waits for it.
#[derive(Debug)]
pub(crate) struct Generation {
    /// What it is found by; none where nobody can join.
    key: Option<Key>,
    charge: Charge,
    bytes_max: usize,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Nobody waits for it any more.
    left: CancellationToken,
}

/// What happened to a generation so far, for the records of its callers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) lane: Option<Arc<Lane>>,
    pub(crate) price: Price,
    /// Whether it is at another model than it was sent to, because that did not answer.
    pub(crate) is_elsewhere: bool,
    /// Whether the model that it is at failed it, and that was counted.
    pub(crate) failed: bool,
    pub(crate) attempts: u32,
    pub(crate) stops: u32,
    pub(crate) detours: super::watch::Detours,
    pub(crate) why: Option<Reason>,
    pub(crate) timeline: Option<Timeline>,
    /// What it took of engines so far.
    pub(crate) runs: Runs,
    /// Events with tokens so far.
    pub(crate) events: u32,
    pub(crate) tokens: Tokens,
    /// Those of the output that were thoughts.
    pub(crate) reasoning: u32,
    /// Whether the engine itself told the tokens.
    pub(crate) counted: bool,
    /// How it ended.
    pub(crate) end: Option<(u16, Termination)>,
}

/// Status and headers, or why there are none.
pub(super) type Head = Result<(StatusCode, HeaderMap), Refused>;

/// Tokens of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub(super) tokens: Tokens,
    /// Those of the output that were thoughts.
    pub(super) reasoning: u32,
    /// Whether the engine itself told them.
    pub(super) counted: bool,
}

/// Some bytes of the answer.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// Tokens up to its end.
    pub(super) count: Count,
    /// Events with tokens up to its end.
    pub(super) events: u32,
    /// Whether the answer had its end by then: nothing follows.
    pub(super) is_last: bool,
}

impl Told {
    /// The tokens so far.
    pub(super) const fn count(&self) -> Count {
        Count { tokens: self.tokens, reasoning: self.reasoning, counted: self.counted }
    }
}

/// What a generation was, for the one of its callers that has it on its account.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) runs: Runs,
    pub(super) tokens: Tokens,
    /// When what of it happened; none where it never began.
    pub(super) timeline: Option<Timeline>,
}

/// A caller that is done with it, and its record, which lacks what it is charged.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) number: u64,
    pub(super) record: Box<Record>,
    /// The gateway's own part of the time that it was read in.
    pub(super) own: Span,
}

impl Gone {
    fn charged(&mut self, parts: &BTreeMap<u64, u64>) {
        self.record.charged = parts.get(&self.number).copied().unwrap_or(0);
    }
}

#[derive(Debug)]
struct State {
    told: Told,
    head: Option<Head>,
    pieces: VecDeque<Piece>,
    /// Bytes of those.
    bytes: usize,
    /// Pieces that everybody has, and that are gone.
    dropped: u64,
    /// For each caller the number of the piece that it gets next.
    callers: BTreeMap<u64, u64>,
    joined: u64,
    /// Whether callers may join.
    open: bool,
    /// Whether it waits for its callers.
    waits: bool,
    /// Whether all of it is here; false when it broke off without a word.
    over: Option<bool>,
    /// Who pays for it together, by the caller's number.
    purse: BTreeMap<u64, Lease>,
    /// What each of these was charged, in millionths; none until that is settled.
    parts: Option<BTreeMap<u64, u64>>,
    /// Those of them that left before.
    gone: Vec<Gone>,
    /// Callers that may have on their account what it takes of engines; none once one has.
    claims: Option<BTreeSet<u64>>,
}

impl Generation {
    /// One that nobody waits for yet.
    pub(super) fn new(key: Option<Key>, charge: Charge, bytes_max: usize) -> Arc<Self> {
        let state = State {
            told: Told::default(),
            head: None,
            pieces: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            callers: BTreeMap::new(),
            joined: 0,
            open: true,
            waits: false,
            over: None,
            purse: BTreeMap::new(),
            parts: None,
            gone: Vec::new(),
            claims: Some(BTreeSet::new()),
        };
        let (changed, left) = (watch::Sender::new(()), CancellationToken::new());
        Arc::new(Self { key, charge, bytes_max, state: Mutex::new(state), changed, left })
    }

    pub(super) const fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.lock().open
    }

    /// Nobody joins from now on.
    pub(super) fn close(&self) {
        self.state.lock().open = false;
    }

    /// One more caller, with its place in its tenant's quotas, which it gets back where it pays for
    /// itself.
    ///
    /// # Errors
    /// It is too late; nothing was joined.
    pub(super) fn join(self: &Arc<Self>, lease: Lease) -> Result<(Member, Option<Lease>), Lease> {
        let mut state = self.state.lock();
        if !state.open {
            return Err(lease);
        }
        let id = state.joined;
        state.joined += 1;
        state.callers.insert(id, 0);
        if let Some(claims) = &mut state.claims {
            claims.insert(id);
        }
        let started = state.told.attempts > 0;
        let own = match (self.charge, id) {
            (Charge::Each, _) => Some(lease),
            (Charge::First, 1..) => Some(lease.free()),
            (Charge::First, 0) | (Charge::Split, _) => {
                if started {
                    lease.started();
                }
                state.purse.insert(id, lease);
                None
            }
        };
        drop(state);
        let changed = self.changed.subscribe();
        Ok((Member { generation: Arc::clone(self), id, changed }, own))
    }

    /// Notes what happened, for the records of all callers.
    pub(super) fn tell(&self, note: impl FnOnce(&mut Told)) {
        note(&mut self.state.lock().told);
    }

    /// The generation has its turn at a replica.
    pub(super) fn started(&self) {
        self.state.lock().purse.values().for_each(Lease::started);
        self.changed.send_replace(());
    }

    /// What happened so far.
    pub(super) fn told(&self) -> Told {
        self.state.lock().told.clone()
    }

    /// A caller is done with it. What it took of engines, with its tokens, is on the account of one: of those who are there
    /// when it ends the one who asked first, or the last one who left before.
    pub(super) fn claim(&self, number: u64) -> Option<Account> {
        let mut state = self.state.lock();
        let claims = state.claims.as_mut()?;
        claims.remove(&number);
        let (is_last, is_first) =
            (claims.is_empty(), claims.first().is_none_or(|first| number < *first));
        let claimed = is_last || (is_first && state.told.end.is_some());
        if !claimed {
            return None;
        }
        state.claims = None;
        // Who came now would get what is on another's account already.
        state.open = false;
        let Told { runs, tokens, timeline, .. } = &state.told;
        Some(Account { runs: runs.clone(), tokens: *tokens, timeline: *timeline })
    }

    /// Who pays together, once nobody joins any more.
    pub(super) fn take_purse(&self) -> BTreeMap<u64, Lease> {
        std::mem::take(&mut self.state.lock().purse)
    }

    /// What each of those was charged. Who left before is given back, with a record that says it.
    pub(super) fn settled(&self, parts: BTreeMap<u64, u64>) -> Vec<Gone> {
        let mut state = self.state.lock();
        let mut gone = std::mem::take(&mut state.gone);
        gone.iter_mut().for_each(|gone| gone.charged(&parts));
        state.parts = Some(parts);
        gone
    }

    /// A caller that pays together with others is done with it. Until it is settled, nobody knows what that one is charged:
    /// its record waits; otherwise it is given back, and says so.
    pub(super) fn leave(&self, mut gone: Gone) -> Option<Gone> {
        let mut state = self.state.lock();
        let Some(parts) = &state.parts else {
            state.gone.push(gone);
            return None;
        };
        gone.charged(parts);
        Some(gone)
    }

    /// The answer begins.
    pub(super) fn begin(&self, parts: Parts) {
        self.state.lock().head = Some(Ok((parts.status, parts.headers)));
        self.changed.send_replace(());
    }

    /// There is no answer.
    pub(super) fn refuse(&self, refused: Refused) {
        self.state.lock().head = Some(Err(refused));
        self.finish(true);
    }

    /// Adds bytes, when there is room for them.
    pub(super) async fn push(&self, bytes: Bytes) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if self.state.lock().add(&bytes, self.bytes_max) {
                break;
            }
            // The sender is part of this very generation.
            let _ = changed.changed().await;
        }
        self.changed.send_replace(());
    }

    /// Nothing more comes.
    pub(super) fn finish(&self, complete: bool) {
        let mut state = self.state.lock();
        state.open = false;
        state.over.get_or_insert(complete);
        drop(state);
        self.changed.send_replace(());
    }

    /// Ends when nobody waits for it any more.
    pub(super) async fn all_left(&self) {
        self.left.cancelled().await;
    }

    /// Status, headers and body, if all of it is here from the first byte on.
    pub(super) fn whole(&self) -> Option<(StatusCode, HeaderMap, Bytes)> {
        let state = self.state.lock();
        let Some(Ok((status, headers))) = &state.head else { return None };
        if state.over != Some(true) || state.dropped > 0 {
            return None;
        }
        // Copied: a piece may be a small part of a large buffer, which would be kept with it.
        let mut body = BytesMut::with_capacity(state.bytes);
        state.pieces.iter().for_each(|piece| body.extend_from_slice(&piece.bytes));
        Some((*status, headers.clone(), body.freeze()))
    }
}

impl State {
    /// Adds bytes unless they have to wait.
    fn add(&mut self, bytes: &Bytes, bytes_max: usize) -> bool {
        self.waits = !self.has_room(bytes.len(), bytes_max);
        if !self.waits {
            self.bytes += bytes.len();
            let (count, is_last) = (self.told.count(), self.told.end.is_some());
            let events = self.told.events;
            self.pieces.push_back(Piece { bytes: bytes.clone(), count, events, is_last });
        }
        !self.waits
    }

    fn has_room(&mut self, bytes: usize, bytes_max: usize) -> bool {
        loop {
            if self.pieces.is_empty() || self.bytes + bytes <= bytes_max {
                return true;
            }
            self.open = false;
            let all = self.dropped + self.pieces.len() as u64;
            // Who has left has nothing to wait for.
            let slowest = self.callers.values().copied().min().unwrap_or(all);
            let fastest = self.callers.values().copied().max().unwrap_or(all);
            while self.dropped < slowest {
                let Some(piece) = self.pieces.pop_front() else { break };
                self.bytes -= piece.bytes.len();
                self.dropped += 1;
            }
            if self.pieces.is_empty() || self.bytes + bytes <= bytes_max {
                return true;
            }
            if fastest < all {
                return false;
            }
            self.callers.retain(|_, next| *next > slowest);
        }
    }
}

/// A caller's place at a generation; dropped, the caller has left.
pub(super) struct Member {
    generation: Arc<Generation>,
    id: u64,
    changed: watch::Receiver<()>,
}

/// What a caller gets next.
pub(super) enum Next {
    Piece(Piece),
    /// It has everything.
    End,
    /// It was too slow for the others, or the generation broke off.
    Cut,
}

impl Member {
    pub(super) const fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Whether it is the one that the generation began for.
    pub(super) const fn is_first(&self) -> bool {
        self.id == 0
    }

    /// How many had asked before.
    pub(super) const fn number(&self) -> u64 {
        self.id
    }

    /// Waits for status and headers; tells when the generation has its turn.
    pub(super) async fn head(&mut self, mut started: impl FnMut()) -> Head {
        let mut told = false;
        loop {
            self.changed.borrow_and_update();
            {
                let state = self.generation.state.lock();
                if !told && state.told.attempts > 0 {
                    told = true;
                    started();
                }
                match (&state.head, state.over) {
                    (Some(head), _) => return head.clone(),
                    (None, Some(_)) => return Err(broken()),
                    (None, None) => {}
                }
            }
            // The sender is part of the generation.
            let _ = self.changed.changed().await;
        }
    }

    /// Waits for more. Nothing is lost when waiting is given up.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            self.changed.borrow_and_update();
            if let Some(next) = self.take() {
                return next;
            }
            let _ = self.changed.changed().await;
        }
    }

    fn take(&self) -> Option<Next> {
        let mut state = self.generation.state.lock();
        let Some(next) = state.callers.get(&self.id).copied() else { return Some(Next::Cut) };
        let at = usize::try_from(next - state.dropped).unwrap_or(usize::MAX);
        if let Some(piece) = state.pieces.get(at).cloned() {
            state.callers.insert(self.id, next + 1);
            if state.waits {
                self.generation.changed.send_replace(());
            }
            return Some(Next::Piece(piece));
        }
        state.over.map(|complete| if complete { Next::End } else { Next::Cut })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let generation = &self.generation;
        let mut state = generation.state.lock();
        state.callers.remove(&self.id);
        let deserted = state.callers.is_empty();
        if deserted {
            state.open = false;
        }
        drop(state);
        if deserted {
            generation.left.cancel();
        } else {
            // It may have been the one that the others' room depended on.
            generation.changed.send_replace(());
        }
    }
}

/// The error of a generation that ended without a word.
fn broken() -> Refused {
    use pilotage_wire::openai::error::ApiError;
    let error = ApiError::internal("the answer broke off; retry the request");
    Refused { termination: Termination::UpstreamError, ..error.into() }
}

/// Ends a generation whose task ends, however it does.
pub(super) struct Ending(pub(super) Arc<Generation>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.finish(false);
    }
}

/// Passes an answer on to everybody who waits for it.
pub(super) async fn pass(generation: &Generation, response: Response) {
    use http_body_util::BodyExt as _;
    let (parts, mut body) = response.into_parts();
    generation.begin(parts);
    while let Some(frame) = body.frame().await {
        // The gateway's own bodies do not fail.
        let Ok(frame) = frame else { return };
        if let Ok(bytes) = frame.into_data() {
            generation.push(bytes).await;
        }
    }
    generation.finish(true);
}
