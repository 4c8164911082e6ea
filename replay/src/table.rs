//! Connections by their key, in the order of their last segment.
//!
//! A slab with two intrusive lists through it, so that finding, touching and evicting a connection
//! each cost a constant: one list of open connections, one of closed ones, which are kept for a
//! while to recognise what arrives late.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use wirespan_engine::Nanos;

use crate::segment::Key;

/// Which list a connection is in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum List {
    Open,
    Closed,
}

/// A place in the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Slot(u32);

/// Values by key; see the module.
pub(crate) struct Table<T> {
    /// Seeded, since whoever is captured chooses the keys.
    slots: HashMap<Key, Slot, RandomState>,
    nodes: Vec<Node<T>>,
    free: Vec<Slot>,
    open: Ends,
    closed: Ends,
}

struct Node<T> {
    key: Key,
    value: T,
    list: List,
    /// Used last before this one, and after it.
    older: Option<Slot>,
    newer: Option<Slot>,
    touched: Nanos,
}

/// The ends of a list.
#[derive(Clone, Copy, Default)]
struct Ends {
    oldest: Option<Slot>,
    newest: Option<Slot>,
    len: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            slots: HashMap::default(),
            nodes: Vec::new(),
            free: Vec::new(),
            open: Ends::default(),
            closed: Ends::default(),
        }
    }
}

impl<T> Table<T> {
    /// The value at `key`, which now is the newest of its list.
    pub(crate) fn touch(&mut self, key: &Key, now: Nanos) -> Option<Slot> {
        let slot = *self.slots.get(key)?;
        self.renew(slot, now);
        Some(slot)
    }

    /// Makes a value the newest of its list.
    pub(crate) fn renew(&mut self, slot: Slot, now: Nanos) {
        let Some(node) = self.node(slot) else { return };
        node.touched = now;
        let list = node.list;
        if self.ends(list).newest != Some(slot) {
            self.unlink(slot);
            self.link(slot, list);
        }
    }

    /// Puts a value at a key that has none, as the newest open one.
    pub(crate) fn insert(&mut self, key: Key, value: T, now: Nanos) -> Slot {
        let node = Node {
            key,
            value,
            list: List::Open,
            older: None,
            newer: None,
            touched: now,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.nodes.get_mut(slot.0 as usize) {
                    *place = node;
                }
                slot
            }
            None => {
                // Bounded by the caller far below 2^32.
                let slot = Slot(self.nodes.len() as u32);
                self.nodes.push(node);
                slot
            }
        };
        self.slots.insert(key, slot);
        self.link(slot, List::Open);
        slot
    }

    /// Moves a value to the end of a list.
    pub(crate) fn shift(&mut self, slot: Slot, list: List) {
        self.unlink(slot);
        self.link(slot, list);
    }

    /// Takes a value out; its slot may be given to another from now on.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let Some(node) = self.node(slot) else { return };
        let key = node.key;
        if self.slots.remove(&key).is_some() {
            self.unlink(slot);
            self.free.push(slot);
        }
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.node(slot).map(|node| &mut node.value)
    }

    /// The value of a list that was touched longest ago, and when that was.
    pub(crate) fn oldest(&mut self, list: List) -> Option<(Slot, Nanos)> {
        let slot = self.ends(list).oldest?;
        self.node(slot).map(|node| (slot, node.touched))
    }

    pub(crate) fn len(&mut self, list: List) -> usize {
        self.ends(list).len
    }

    fn node(&mut self, slot: Slot) -> Option<&mut Node<T>> {
        self.nodes.get_mut(slot.0 as usize)
    }

    fn ends(&mut self, list: List) -> &mut Ends {
        match list {
            List::Open => &mut self.open,
            List::Closed => &mut self.closed,
        }
    }

    fn link(&mut self, slot: Slot, list: List) {
        let newest = self.ends(list).newest;
        if let Some(node) = self.node(slot) {
            (node.list, node.older, node.newer) = (list, newest, None);
        }
        if let Some(node) = newest.and_then(|newest| self.node(newest)) {
            node.newer = Some(slot);
        }
        let ends = self.ends(list);
        ends.newest = Some(slot);
        ends.oldest = ends.oldest.or(Some(slot));
        ends.len += 1;
    }

    fn unlink(&mut self, slot: Slot) {
        let Some(node) = self.node(slot) else { return };
        let (list, older, newer) = (node.list, node.older, node.newer);
        if let Some(node) = older.and_then(|older| self.node(older)) {
            node.newer = newer;
        }
        if let Some(node) = newer.and_then(|newer| self.node(newer)) {
            node.older = older;
        }
        let ends = self.ends(list);
        if ends.oldest == Some(slot) {
            ends.oldest = newer;
        }
        if ends.newest == Some(slot) {
            ends.newest = older;
        }
        ends.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Endpoint;

    fn key(port: u16) -> Key {
        Key {
            low: Endpoint::v4([0; 4], port),
            high: Endpoint::v4([1; 4], 80),
            lane: None,
        }
    }

    fn order(table: &mut Table<u16>, list: List) -> Vec<u16> {
        let mut ports = Vec::new();
        let mut next = table.oldest(list).map(|(slot, _)| slot);
        while let Some(slot) = next {
            ports.push(*table.get_mut(slot).unwrap());
            next = table.node(slot).unwrap().newer;
        }
        assert_eq!(ports.len(), table.len(list));
        ports
    }

    #[test]
    fn touching_makes_a_value_the_newest() {
        let mut table = Table::default();
        for port in 1..=4 {
            table.insert(key(port), port, Nanos(0));
        }
        table.touch(&key(2), Nanos(1)).unwrap();
        table.touch(&key(1), Nanos(2)).unwrap();
        assert_eq!(order(&mut table, List::Open), [3, 4, 2, 1]);
    }

    #[test]
    fn closed_values_are_found_and_stay_in_their_list() {
        let mut table = Table::default();
        let slots: Vec<_> = (1..=3)
            .map(|port| table.insert(key(port), port, Nanos(0)))
            .collect();
        table.shift(slots[1], List::Closed);
        assert_eq!(table.touch(&key(2), Nanos(1)), Some(slots[1]));
        assert_eq!(order(&mut table, List::Open), [1, 3]);
        assert_eq!(order(&mut table, List::Closed), [2]);
    }

    #[test]
    fn removed_places_are_used_again() {
        let mut table = Table::default();
        for port in 1..=1_000 {
            let slot = table.insert(key(port), port, Nanos(0));
            table.remove(slot);
            table.remove(slot);
        }
        assert_eq!((table.nodes.len(), table.slots.len()), (1, 0));
        assert_eq!(order(&mut table, List::Open), []);
    }
}
