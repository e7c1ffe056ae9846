//! The way from a lane to one request: a few messages in its life, mostly one at a time, so that
//! a channel with room for many would be most of the memory that a waiting request takes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

/// The lane's end; dropped, nothing more comes.
#[derive(Debug)]
pub(super) struct Sender<T>(Arc<Mutex<Mailbox<T>>>);

/// The request's end.
#[derive(Debug)]
pub(super) struct Receiver<T>(Arc<Mutex<Mailbox<T>>>);

#[derive(Debug)]
struct Mailbox<T> {
    first: Option<T>,
    /// What came while the first was not taken.
    more: VecDeque<T>,
    waiting: Option<Waker>,
    closed: bool,
}

/// An empty mailbox.
pub(super) fn new<T>() -> (Sender<T>, Receiver<T>) {
    let mailbox = Mailbox { first: None, more: VecDeque::new(), waiting: None, closed: false };
    let mailbox = Arc::new(Mutex::new(mailbox));
    (Sender(Arc::clone(&mailbox)), Receiver(mailbox))
}

impl<T> Sender<T> {
    /// Puts a message in. Nobody may ever take it.
    pub(super) fn send(&self, message: T) {
        let mut mailbox = self.0.lock();
        if mailbox.first.is_none() {
            mailbox.first = Some(message);
        } else {
            mailbox.more.push_back(message);
        }
        let waiting = mailbox.waiting.take();
        drop(mailbox);
        waiting.inspect(Waker::wake_by_ref);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut mailbox = self.0.lock();
        mailbox.closed = true;
        let waiting = mailbox.waiting.take();
        drop(mailbox);
        waiting.inspect(Waker::wake_by_ref);
    }
}

impl<T> Receiver<T> {
    /// The next message; none when none will come. Nothing is lost when waiting is given up.
    pub(super) async fn recv(&mut self) -> Option<T> {
        std::future::poll_fn(|context| {
            let mut mailbox = self.0.lock();
            if let Some(message) = mailbox.take() {
                return Poll::Ready(Some(message));
            }
            if mailbox.closed {
                return Poll::Ready(None);
            }
            match &mut mailbox.waiting {
                Some(waiting) => waiting.clone_from(context.waker()),
                waiting => *waiting = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }

    /// The next message, if it is there.
    #[cfg(test)]
    pub(super) fn try_recv(&mut self) -> Option<T> {
        self.0.lock().take()
    }
}

impl<T> Mailbox<T> {
    fn take(&mut self) -> Option<T> {
        let message = self.first.take();
        self.first = self.more.pop_front();
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_in_order_and_then_none() {
        let (sender, mut receiver) = new();
        let reading = async {
            let mut all = Vec::new();
            while let Some(message) = receiver.recv().await {
                all.push(message);
            }
            all
        };
        let writing = async {
            sender.send(1);
            tokio::task::yield_now().await;
            (2..6).for_each(|message| sender.send(message));
            tokio::task::yield_now().await;
            sender.send(6);
            drop(sender);
        };
        let (all, ()) = tokio::join!(reading, writing);
        assert_eq!(all, [1, 2, 3, 4, 5, 6]);
    }
}
