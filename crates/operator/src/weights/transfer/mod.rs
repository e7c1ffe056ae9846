//! A download over HTTPS that survives cuts and crashes: large files come in parts, several at once, what
//! came is kept with a record of it, and the next attempt asks for the rest, as long as the server still
//! has the same version.

mod ask;
mod patience;
mod record;
mod tally;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use pilotage_shell::secret::Secret;

use super::WeightsError;
use super::access::Limits;
pub(super) use ask::{Answer, Asker, Cut, Question};
use patience::Patience;
pub(super) use record::Place;
use record::Record;
pub(super) use tally::Tally;

/// Most bytes of a file, far above the largest published weights.
pub const FILE_BYTES_MAX: u64 = 4 << 40;

/// Versions of a file that a server may have while it is fetched.
const VERSIONS_MAX: u32 = 3;

/// Bytes after which a record is written: what a crash may cost.
const SAVE_BYTES: u64 = 16 << 20;

/// Whether there is room for that many more bytes.
pub(super) type Room<'a> = &'a (dyn Fn(u64) -> Result<(), WeightsError> + Sync);

/// What all files of a download share.
pub(super) struct Transfer<'a> {
    pub asker: &'a Asker,
    pub limits: Limits,
    pub tally: &'a Tally<'a>,
    pub room: Room<'a>,
}

/// A file to fetch.
pub(super) struct Wanted<'a> {
    pub url: &'a str,
    pub authorization: Option<&'a Secret>,
    /// Its size, where somebody who is believed says it.
    pub size: Option<u64>,
    pub place: &'a Place,
}

/// One version of a file under way.
struct Work<'a> {
    transfer: &'a Transfer<'a>,
    wanted: &'a Wanted<'a>,
    file: File,
    state: Mutex<State>,
}

struct State {
    record: Record,
    /// Parts before this one are taken.
    next: usize,
}

impl Transfer<'_> {
    /// Fetches a file.
    ///
    /// # Errors
    /// What came so far is kept.
    pub(super) async fn fetch(&self, wanted: &Wanted<'_>) -> Result<(), Cut> {
        for _ in 0..VERSIONS_MAX {
            match self.version(wanted).await {
                Err(Cut::Changed) => {
                    self.tally.progress.note("the server has another version now; beginning anew");
                    wanted.place.discard();
                }
                result => return result,
            }
        }
        Err(Cut::Changed)
    }

    async fn version(&self, wanted: &Wanted<'_>) -> Result<(), Cut> {
        let fits = |record: &Record| {
            let size = wanted.size.is_none_or(|size| record.total == Some(size));
            size && (record.is_whole() || !record.tag.is_empty())
        };
        let (work, first) = match Record::load(wanted.place).filter(fits) {
            Some(record) if record.is_whole() => {
                self.tally.add(record.have());
                return Ok(());
            }
            Some(record) => (self.resume(wanted, record)?, None),
            None => {
                let (record, answer) = self.begin(wanted).await?;
                (Work::new(self, wanted, record, true)?, Some(answer))
            }
        };
        let counted = work.run(first).await;
        if matches!(counted, Err(Cut::Changed)) {
            self.tally.subtract(work.state.lock().record.have());
        }
        counted
    }

    fn resume<'a>(&'a self, wanted: &'a Wanted<'a>, record: Record) -> Result<Work<'a>, Cut> {
        if let Some(total) = record.total {
            self.tally.expect(total);
            (self.room)(total - record.have()).map_err(Cut::here)?;
        }
        self.tally.add(record.have());
        Work::new(self, wanted, record, false)
    }

    /// Asks for the whole, to learn of the file what its head says.
    async fn begin(&self, wanted: &Wanted<'_>) -> Result<(Record, Answer), Cut> {
        let question = Question {
            url: wanted.url,
            authorization: wanted.authorization,
            ..Question::default()
        };
        let mut patience = Patience::default();
        let answer = loop {
            match self.asker.ask(&question).await {
                Ok(answer) => break answer,
                Err(cut) => patience.wait(cut, false, self.tally.progress).await?,
            }
        };
        let headers = answer.response.headers();
        let told = length(headers);
        if let (Some(told), Some(size)) = (told, wanted.size)
            && told != size
        {
            return Err(Cut::Final(format!("it has {told} bytes instead of {size}")));
        }
        let total = told.or(wanted.size);
        if total.is_some_and(|total| total > FILE_BYTES_MAX) {
            return Err(Cut::Final(format!("the file is larger than {FILE_BYTES_MAX} bytes")));
        }
        if let Some(total) = total {
            self.tally.expect(total);
        }
        (self.room)(total.unwrap_or(0)).map_err(Cut::here)?;
        let tag = tag(headers);
        let ranges = headers.get(header::ACCEPT_RANGES).is_some_and(|kind| kind == "bytes");
        let in_parts = ranges && !tag.is_empty() && told.is_some();
        Ok((Record::new(tag, total, self.limits.part_bytes, in_parts), answer))
    }
}

impl<'a> Work<'a> {
    fn new(
        transfer: &'a Transfer<'a>,
        wanted: &'a Wanted<'a>,
        record: Record,
        anew: bool,
    ) -> Result<Self, Cut> {
        let place = wanted.place;
        let failed = |error| Cut::here(WeightsError::file(&place.data, error));
        let open = OpenOptions::new().create(true).write(true).truncate(anew).open(&place.data);
        let file = open.map_err(failed)?;
        if let Some(total) = record.total {
            file.set_len(total).map_err(failed)?;
        }
        record.save(place).map_err(failed)?;
        Ok(Self { transfer, wanted, file, state: Mutex::new(State { record, next: 0 }) })
    }

    /// All parts, several at once. The first error stops them all.
    async fn run(&self, first: Option<Answer>) -> Result<(), Cut> {
        let mut first = first;
        let mut workers = FuturesUnordered::new();
        for _ in 0..self.transfer.limits.parts_at_once.max(1) {
            let Some(part) = self.take() else { break };
            // The answer that told what the file is begins with the first part.
            workers.push(self.work(part, first.take()));
        }
        let mut result = Ok(());
        while let Some(done) = workers.next().await {
            result = done;
            if result.is_err() {
                break;
            }
        }
        drop(workers);
        self.save()?;
        result
    }

    async fn work(&self, part: usize, first: Option<Answer>) -> Result<(), Cut> {
        self.part(part, first).await?;
        while let Some(part) = self.take() {
            self.part(part, None).await?;
        }
        Ok(())
    }

    /// The next part that is not there and that nobody fetches.
    fn take(&self) -> Option<usize> {
        let mut state = self.state.lock();
        let State { record, next } = &mut *state;
        let part = (*next..record.done.len()).find(|&part| !record.is_part_whole(part));
        *next = part.map_or(record.done.len(), |part| part + 1);
        part
    }

    async fn part(&self, part: usize, first: Option<Answer>) -> Result<(), Cut> {
        let mut patience = Patience::default();
        let mut first = first;
        loop {
            let before = self.done(part);
            let result = match first.take() {
                Some(answer) => self.receive(part, answer).await,
                None => self.attempt(part).await,
            };
            self.save()?;
            let Err(cut) = result else { return Ok(()) };
            let brought = self.done(part) > before;
            patience.wait(cut, brought, self.transfer.tally.progress).await?;
        }
    }

    async fn attempt(&self, part: usize) -> Result<(), Cut> {
        let (record, from) = self.where_to_go_on(part);
        let (begin, length) = record.span(part);
        let parts = record.done.len();
        let at = begin + from;
        // Without a range the answer is the whole, which is right where nothing is there yet.
        let range = (at > 0 || parts > 1).then(|| (at, (parts > 1).then(|| begin + length - 1)));
        let question = Question {
            url: self.wanted.url,
            authorization: self.wanted.authorization,
            range,
            tag: (!record.tag.is_empty()).then_some(record.tag.as_str()),
            ..Question::default()
        };
        let answer = self.transfer.asker.ask(&question).await?;
        let headers = answer.response.headers();
        let total = match answer.response.status() {
            StatusCode::PARTIAL_CONTENT if range.is_some() => ranged_total(headers, at)?,
            _ if range.is_none() => self::length(headers),
            // The whole instead of a part: it is another version.
            _ => return Err(Cut::Changed),
        };
        let other = record.total.zip(total).is_some_and(|(known, told)| known != told);
        let tag = tag(headers);
        let partial = answer.response.status() == StatusCode::PARTIAL_CONTENT;
        if other || (tag != record.tag && !(partial && tag.is_empty())) {
            return Err(Cut::Changed);
        }
        self.receive(part, answer).await
    }

    /// Without the server's tag nobody can tell whether it is still the same file.
    fn where_to_go_on(&self, part: usize) -> (Record, u64) {
        let mut state = self.state.lock();
        if state.record.tag.is_empty() {
            self.transfer.tally.subtract(state.record.done[part]);
            state.record.done[part] = 0;
        }
        (state.record.clone(), state.record.done[part])
    }

    /// Writes what comes, from where the part is, to its end.
    async fn receive(&self, part: usize, mut answer: Answer) -> Result<(), Cut> {
        let whole = answer.response.status() != StatusCode::PARTIAL_CONTENT;
        let (begin, length, parts) = {
            let state = self.state.lock();
            let (begin, length) = state.record.span(part);
            (begin, length, state.record.done.len())
        };
        let mut unsaved = 0;
        while let Some(data) = ask::frame(answer.response.body_mut()).await? {
            let have = self.done(part);
            let left = length.min(FILE_BYTES_MAX) - have;
            let more = data.len() as u64 > left;
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
            self.file
                .write_all_at(&data[..taken], begin + have)
                .map_err(|error| Cut::here(WeightsError::file(&self.wanted.place.data, error)))?;
            self.state.lock().record.done[part] += taken as u64;
            self.transfer.tally.add(taken as u64);
            if more && whole && parts > 1 {
                return Ok(());
            }
            if more {
                return Err(Cut::Final("the server sends more than it announced".to_owned()));
            }
            unsaved += taken as u64;
            if unsaved >= SAVE_BYTES {
                unsaved = 0;
                self.save()?;
            }
        }
        let mut state = self.state.lock();
        let have = state.record.done[part];
        match state.record.total {
            None => state.record.total = Some(have),
            Some(total) if have < length => {
                let at = begin + have;
                return Err(Cut::transient(format!("it broke off at {at} of {total} bytes")));
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn done(&self, part: usize) -> u64 {
        self.state.lock().record.done[part]
    }

    /// First the bytes, then what says that they are there.
    fn save(&self) -> Result<(), Cut> {
        let place = self.wanted.place;
        let record = self.state.lock().record.clone();
        let saved = self.file.sync_data().and_then(|()| record.save(place));
        saved.map_err(|error| Cut::here(WeightsError::file(&place.data, error)))
    }
}

impl Cut {
    pub(super) fn here(error: WeightsError) -> Self {
        Self::Here(Box::new(error))
    }
}

/// The name of a version by which it can be asked for again: not a weak one.
fn tag(headers: &HeaderMap) -> String {
    let tag = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
    tag.filter(|tag| !tag.starts_with("W/")).unwrap_or_default().to_owned()
}

/// The whole length from `Content-Range: bytes FROM-TO/TOTAL`.
fn ranged_total(headers: &HeaderMap, from: u64) -> Result<Option<u64>, Cut> {
    let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let parsed = range.and_then(|range| {
        let (span, total) = range.strip_prefix("bytes ")?.split_once('/')?;
        let begin: u64 = span.split('-').next()?.parse().ok()?;
        Some((begin, total.parse().ok()))
    });
    match parsed {
        Some((begin, total)) if begin == from => Ok(total),
        _ => Err(Cut::Final("the server sent another range than it was asked for".to_owned())),
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
