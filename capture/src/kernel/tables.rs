//! The maps of connections, which are read and written while events flow.

use std::os::fd::AsFd as _;

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, MapError};
use wirespan_capture_abi::{Connection, Session, SessionKey, Wish};

use super::{Plain, map_error};
use crate::Error;
use crate::feed::{Key as Flow, Known, Maps};

/// One way to them; there may be several.
pub(crate) struct Tables {
    connections: HashMap<MapData, u64, Plain<Connection>>,
    wishes: HashMap<MapData, u64, Plain<Wish>>,
    sessions: HashMap<MapData, Plain<SessionKey>, Plain<Session>>,
    session_wishes: HashMap<MapData, Plain<SessionKey>, Plain<Wish>>,
}

impl Known for Tables {
    fn connection(&self, sock: u64) -> Option<Connection> {
        self.connections.get(&sock, 0).ok().map(|plain| plain.0)
    }

    fn session(&self, key: SessionKey) -> Option<Session> {
        let found = self.sessions.get(&Plain(key), 0);
        found.ok().map(|plain| plain.0)
    }
}

impl Tables {
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self, Error> {
        Ok(Self {
            connections: another(ebpf, "CONNECTIONS")?,
            wishes: another(ebpf, "WISHES")?,
            sessions: another(ebpf, "SESSIONS")?,
            session_wishes: another(ebpf, "SESSION_WISHES")?,
        })
    }
}

impl Maps for Tables {
    fn set_wish(&mut self, flow: Flow, wish: Wish) {
        let _ = match flow {
            Flow::Socket(sock) => self.wishes.insert(sock, Plain(wish), 0),
            Flow::Session(key) => self.session_wishes.insert(Plain(key), Plain(wish), 0),
        };
    }

    fn forget(&mut self, sock: u64) {
        // What is not there need not be removed.
        let _ = self.connections.remove(&sock);
        let _ = self.wishes.remove(&sock);
    }

    fn forget_session(&mut self, key: SessionKey, born: u64) {
        if self
            .session(key)
            .is_some_and(|session| session.born == born)
        {
            let _ = self.sessions.remove(&Plain(key));
            let _ = self.session_wishes.remove(&Plain(key));
        }
    }
}

/// A map of the object, once more.
fn another<T: TryFrom<Map, Error = MapError>>(ebpf: &Ebpf, name: &'static str) -> Result<T, Error> {
    let missing = || Error::Missing(format!("map {name}"));
    let data = match ebpf.map(name).ok_or_else(missing)? {
        Map::HashMap(data) | Map::LruHashMap(data) => data,
        _ => return Err(missing()),
    };
    let fd = data
        .fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(Error::Wait)?;
    let data = MapData::from_fd(fd).and_then(Map::from_map_data);
    data.and_then(T::try_from).map_err(map_error(name))
}
