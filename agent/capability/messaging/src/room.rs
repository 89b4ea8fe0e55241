//! How many messages a unit has in work. In: messages that begin and end. Out: room for more, as replicas allow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Notify;

/// Room for messages.
#[derive(Debug)]
pub(crate) struct Room {
    per_replica: u32,
    in_work: AtomicU32,
    pub(crate) freed: Notify,
}

/// The place of one message.
#[derive(Debug)]
pub(crate) struct Place(Arc<Room>);

impl Room {
    pub(crate) fn new(per_replica: u32) -> Self {
        Self {
            per_replica: per_replica.max(1),
            in_work: AtomicU32::new(0),
            freed: Notify::new(),
        }
    }

    /// Messages that may begin now.
    pub(crate) fn free(&self, replicas: u32) -> u32 {
        let most = self.per_replica.saturating_mul(replicas);
        most.saturating_sub(self.in_work.load(Ordering::Acquire))
    }

    /// Takes a place; whoever asks has looked whether there is one.
    pub(crate) fn take(self: &Arc<Self>) -> Place {
        self.in_work.fetch_add(1, Ordering::AcqRel);
        Place(Arc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_work.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_per_replica() {
        let room = Arc::new(Room::new(2));
        assert_eq!((room.free(0), room.free(1), room.free(3)), (0, 2, 6));
        let place = room.take();
        assert_eq!((room.free(1), room.free(2)), (1, 3));
        drop(place);
        assert_eq!(room.free(1), 2);
    }
}
