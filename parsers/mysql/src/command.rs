//! The commands of the protocol.

/// A command's first byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Command(pub(crate) u8);

impl Command {
    pub(crate) const QUIT: Self = Self(0x01);
    pub(crate) const INIT_DB: Self = Self(0x02);
    pub(crate) const QUERY: Self = Self(0x03);
    pub(crate) const FIELD_LIST: Self = Self(0x04);
    pub(crate) const CREATE_DB: Self = Self(0x05);
    pub(crate) const DROP_DB: Self = Self(0x06);
    pub(crate) const STATISTICS: Self = Self(0x09);
    pub(crate) const PROCESS_INFO: Self = Self(0x0A);
    pub(crate) const PING: Self = Self(0x0E);
    pub(crate) const CHANGE_USER: Self = Self(0x11);
    pub(crate) const BINLOG_DUMP: Self = Self(0x12);
    pub(crate) const PREPARE: Self = Self(0x16);
    pub(crate) const EXECUTE: Self = Self(0x17);
    pub(crate) const SEND_LONG_DATA: Self = Self(0x18);
    pub(crate) const CLOSE: Self = Self(0x19);
    pub(crate) const RESET: Self = Self(0x1A);
    pub(crate) const SET_OPTION: Self = Self(0x1B);
    pub(crate) const FETCH: Self = Self(0x1C);
    pub(crate) const BINLOG_DUMP_GTID: Self = Self(0x1E);
    pub(crate) const RESET_CONNECTION: Self = Self(0x1F);
    /// MariaDB: one statement, many rows of parameters.
    pub(crate) const BULK_EXECUTE: Self = Self(0xFA);

    /// Its name in records; `None` for bytes that no client sends as a command.
    pub(crate) const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::QUIT => "QUIT",
            Self::INIT_DB => "INIT_DB",
            Self::QUERY => "QUERY",
            Self::FIELD_LIST => "FIELD_LIST",
            Self::CREATE_DB => "CREATE_DB",
            Self::DROP_DB => "DROP_DB",
            Self(0x07) => "REFRESH",
            Self(0x08) => "SHUTDOWN",
            Self::STATISTICS => "STATISTICS",
            Self::PROCESS_INFO => "PROCESS_INFO",
            Self(0x0C) => "PROCESS_KILL",
            Self(0x0D) => "DEBUG",
            Self::PING => "PING",
            Self::CHANGE_USER => "CHANGE_USER",
            Self::BINLOG_DUMP => "BINLOG_DUMP",
            Self(0x15) => "REGISTER_SLAVE",
            Self::PREPARE => "PREPARE",
            Self::EXECUTE => "EXECUTE",
            Self::SEND_LONG_DATA => "SEND_LONG_DATA",
            Self::CLOSE => "CLOSE",
            Self::RESET => "RESET",
            Self::SET_OPTION => "SET_OPTION",
            Self::FETCH => "FETCH",
            Self::BINLOG_DUMP_GTID => "BINLOG_DUMP_GTID",
            Self::RESET_CONNECTION => "RESET_CONNECTION",
            Self::BULK_EXECUTE => "BULK_EXECUTE",
            _ => return None,
        })
    }

    /// Whether it can have a payload of `len` bytes, its first byte included.
    pub(crate) const fn fits(self, len: u32) -> bool {
        match self {
            Self::QUIT
            | Self::STATISTICS
            | Self::PROCESS_INFO
            | Self(0x0D)
            | Self::PING
            | Self::RESET_CONNECTION => len == 1,
            Self(0x07) => len == 2,
            Self(0x08) => len <= 2,
            Self::CLOSE | Self::RESET | Self(0x0C) => len == 5,
            Self::SET_OPTION => len == 3,
            Self::FETCH => len == 9,
            Self::EXECUTE => len >= 10,
            Self::BULK_EXECUTE | Self::SEND_LONG_DATA => len >= 7,
            Self::QUERY | Self::PREPARE | Self::CHANGE_USER | Self::FIELD_LIST => len >= 2,
            Self::INIT_DB | Self::CREATE_DB | Self::DROP_DB => len <= 1024,
            _ => self.name().is_some(),
        }
    }

    /// Bytes of the payload that are read, at most.
    pub(crate) const fn head(self) -> u32 {
        match self {
            Self::QUERY | Self::PREPARE => MAX_HEAD,
            Self::INIT_DB | Self::CREATE_DB | Self::DROP_DB | Self::CHANGE_USER => 1024,
            Self::EXECUTE => 10,
            _ => 9,
        }
    }

    /// Whether the server answers.
    pub(crate) const fn is_answered(self) -> bool {
        !matches!(self, Self::QUIT | Self::CLOSE | Self::SEND_LONG_DATA)
    }
}

/// Bytes of a statement, or of parameters, that are looked at.
pub(crate) const MAX_HEAD: u32 = 16 * 1024;
