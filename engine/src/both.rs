//! A pair of things, one for each direction.

use std::ops::{Index, IndexMut};

use wirespan_parser_api::Direction;

/// One `T` for each [`Direction`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Both<T> {
    /// For bytes from client to server.
    pub to_server: T,
    /// For bytes from server to client.
    pub to_client: T,
}

impl<T> Index<Direction> for Both<T> {
    type Output = T;

    fn index(&self, dir: Direction) -> &T {
        match dir {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }
}

impl<T> IndexMut<Direction> for Both<T> {
    fn index_mut(&mut self, dir: Direction) -> &mut T {
        match dir {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }
}

/// Both directions, client's first.
pub(crate) const DIRECTIONS: [Direction; 2] = [Direction::ToServer, Direction::ToClient];
