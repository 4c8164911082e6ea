//! eBPF programs that observe sockets and TLS libraries: which bytes moved between which process and which
//! connection, where in their streams, and when.
//!
//! ```text
//! syscalls    ─┐  begin          finish
//! (tracepoint) ├────────▶ calls ────────▶ copy ─▶ EVENTS (ring buffer)
//! functions   ─┘          THREADS   │
//! (kprobe, fentry)                  ▼
//! lifecycle ────────────────▶ connections ─▶ EVENTS
//! (raw tracepoints)           CONNECTIONS
//!
//! libraries ─┐
//! (uprobe)   ├────▶ tls ────────▶ copy      cleartext; `calls` asks it whose ciphertext a socket has
//! go ────────┘      SESSIONS
//! ```
//!
//! They know no protocol above TCP, change nothing that they see, and bound every loop.
#![no_std]
#![no_main]

mod calls;
mod connections;
mod copy;
mod fairness;
mod filters;
mod functions;
mod go;
mod kernel;
mod libraries;
mod lifecycle;
mod maps;
mod syscalls;
mod tls;

/// What the helpers that read memory ask for.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
