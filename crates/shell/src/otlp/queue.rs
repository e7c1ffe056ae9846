//! What waits to be sent: bounded, allocated once, and handed over under a lock that is held for a few
//! instructions.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The queue.
pub(super) struct Queue<T> {
    waiting: Mutex<VecDeque<T>>,
    most: usize,
    /// At how many whoever takes is woken, without waiting for its time.
    wake_at: usize,
    full_enough: Notify,
}

impl<T> Queue<T> {
    /// One for `most`.
    pub(super) fn new(most: usize, wake_at: usize) -> Self {
        let waiting = Mutex::new(VecDeque::with_capacity(most));
        Self { waiting, most, wake_at: wake_at.clamp(1, most.max(1)), full_enough: Notify::new() }
    }

    /// How many may wait: a quarter of the room is for what is urgent.
    const fn room(&self, is_urgent: bool) -> usize {
        if is_urgent { self.most } else { self.most - self.most / 4 }
    }

    /// Whether there is room.
    pub(super) fn has_room(&self, is_urgent: bool) -> bool {
        self.len() < self.room(is_urgent)
    }

    /// Whether there was room.
    pub(super) fn push(&self, one: T) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= self.most {
            return false;
        }
        waiting.push_back(one);
        let wakes = waiting.len() == self.wake_at;
        drop(waiting);
        if wakes {
            self.full_enough.notify_one();
        }
        true
    }

    /// At most so many, the oldest first.
    pub(super) fn take(&self, most: usize) -> Vec<T> {
        let mut waiting = self.waiting.lock();
        let count = most.min(waiting.len());
        waiting.drain(..count).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Until there is enough for a batch.
    pub(super) async fn full_enough(&self) {
        if self.len() < self.wake_at {
            self.full_enough.notified().await;
        }
    }
}
