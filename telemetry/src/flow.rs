//! A body that is written while it is sent: by somebody who never waits, to somebody who may.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Begins a body of which at most `most` bytes wait to be sent.
#[must_use]
pub fn flow(most: usize) -> (Feeder, Flow) {
    // Bounded by bytes, below.
    let (sender, receiver) = unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let feeder = Feeder {
        sender,
        waiting: Arc::clone(&waiting),
        most,
    };
    (feeder, Flow { receiver, waiting })
}

/// Writes a body. The body ends when this is dropped.
#[derive(Debug)]
pub struct Feeder {
    sender: UnboundedSender<Bytes>,
    waiting: Arc<AtomicUsize>,
    most: usize,
}

/// What became of a part of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fed {
    /// It will be sent.
    Taken,
    /// There is no room for it: the reader is too slow.
    Full,
    /// The reader has gone.
    Gone,
}

impl Feeder {
    /// Adds a part, if there is room for it; waits for nothing.
    pub fn feed(&self, part: &[u8]) -> Fed {
        let len = part.len();
        // Only this end adds.
        if self.waiting.load(Ordering::Relaxed).saturating_add(len) > self.most {
            return match self.is_gone() {
                true => Fed::Gone,
                false => Fed::Full,
            };
        }
        self.waiting.fetch_add(len, Ordering::Relaxed);
        match self.sender.send(Bytes::copy_from_slice(part)) {
            Ok(()) => Fed::Taken,
            Err(_) => Fed::Gone,
        }
    }

    /// Whether the reader has gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }
}

/// The body.
#[derive(Debug)]
pub struct Flow {
    receiver: UnboundedReceiver<Bytes>,
    waiting: Arc<AtomicUsize>,
}

impl Flow {
    /// Waits for the next part; `None` at the end. Not for threads that others wait for.
    pub fn wait_part(&mut self) -> Option<Bytes> {
        let part = self.receiver.blocking_recv()?;
        self.waiting.fetch_sub(part.len(), Ordering::Relaxed);
        Some(part)
    }

    /// The next part; `None` at the end.
    pub(crate) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let part = self.receiver.poll_recv(context);
        if let Poll::Ready(Some(part)) = &part {
            self.waiting.fetch_sub(part.len(), Ordering::Relaxed);
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn what_finds_no_room_is_not_taken_and_room_comes_back() {
        let (feeder, mut flow) = flow(10);
        let part = b"123456";
        assert_eq!(feeder.feed(part), Fed::Taken);
        assert_eq!(feeder.feed(part), Fed::Full);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(
            flow.poll_part(&mut context),
            Poll::Ready(Some(Bytes::from_static(part)))
        );
        assert_eq!(feeder.feed(part), Fed::Taken);
        assert_eq!(flow.wait_part().as_deref(), Some(&part[..]));
        drop(flow);
        assert_eq!(feeder.feed(b"1"), Fed::Gone);
        assert_eq!(feeder.feed(part), Fed::Gone);
        assert!(feeder.is_gone());
    }
}
