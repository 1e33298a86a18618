//! Telling the agents of a group that their records are kept, with one wake-up of the thread that serves them.
//!
//! The journal thread shares its processors with those that serve agents. Would it wake the tasks of a group one by one, each
//! time the serving thread would get up, write a single answer and lie down again, and so would this one: two changes of
//! context for each upload. So it wakes one task of the group and hands it the others; that one wakes them where it runs,
//! which takes no system call.

use tokio::sync::oneshot;

/// That records are kept, and those who have yet to hear the same: they do when this is dropped, wherever that is.
#[must_use]
#[derive(Debug)]
pub(super) struct Acknowledgement {
    others: Vec<oneshot::Sender<Acknowledgement>>,
}

/// Says to all of a group that their records are kept. Who has gone does not hear it; the others do.
pub(super) fn acknowledge(group: impl DoubleEndedIterator<Item = oneshot::Sender<Acknowledgement>>) {
    // In reverse: the first to have come is taken off the end.
    let mut others: Vec<_> = group.rev().collect();
    while let Some(first) = others.pop() {
        match first.send(Acknowledgement { others }) {
            Ok(()) => return,
            Err(mut unheard) => others = std::mem::take(&mut unheard.others),
        }
    }
}

impl Drop for Acknowledgement {
    fn drop(&mut self) {
        while let Some(other) = self.others.pop() {
            // One that has gone has nobody to tell.
            other.send(Self { others: Vec::new() }).unwrap_or_else(drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(size: usize) -> (Vec<oneshot::Sender<Acknowledgement>>, Vec<oneshot::Receiver<Acknowledgement>>) {
        (0..size).map(|_| oneshot::channel()).unzip()
    }

    #[test]
    fn one_hears_it_first_and_the_others_once_it_has() {
        let (senders, mut receivers) = group(4);
        acknowledge(senders.into_iter());
        assert!(receivers[1..].iter_mut().all(|other| other.try_recv().is_err()));
        let first = receivers[0].try_recv();
        assert!(first.is_ok() && receivers[1..].iter_mut().all(|other| other.try_recv().is_err()));
        drop(first);
        assert!(receivers[1..].iter_mut().all(|other| other.try_recv().is_ok()));
    }

    #[test]
    fn who_has_gone_keeps_it_from_nobody() {
        // Gone before it was said, and gone after it was said and before it was heard.
        let (senders, mut receivers) = group(5);
        drop(receivers.drain(..2));
        acknowledge(senders.into_iter());
        drop(receivers.remove(0));
        assert!(receivers.iter_mut().all(|other| other.try_recv().is_ok()));
    }
}
