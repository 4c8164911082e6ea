//! Go programs.

/// Where Go's structures hold what leads from a connection to its descriptor, in bytes.
///
/// `tls.Conn` → `conn`, an interface: a type word and, 8 bytes on, a pointer to `net.TCPConn` →
/// pointer to `net.netFD` at offset 0 → `pfd.Sysfd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoOffsets {
    /// `tls.Conn.conn`.
    pub conn: u16,
    /// `net.netFD.pfd.Sysfd`, of 8 bytes.
    pub descriptor: u16,
    /// `runtime.g.goid`, of 8 bytes; `g` itself is in `r14`.
    pub goid: u16,
    /// Address of the type word that a `*net.TCPConn` has as a `net.Conn`, as the file says. With
    /// it any other kind of connection is told apart.
    pub tcp_conn_type: Option<u64>,
}
