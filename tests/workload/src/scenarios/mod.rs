//! The scenarios, by name.

mod bulk;
mod descriptors;
mod hold;
mod kinds;
mod shapes;
mod ways;

use std::io;

use crate::end::Way;
use crate::stage::Stage;

/// Something that programs do with sockets.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What is particular about it.
    pub(crate) about: &'static str,
    pub(crate) act: Act,
}

/// What happens in a scenario.
pub(crate) enum Act {
    /// The usual conversation, with these ways of client and server.
    Converse(Way, Way),
    /// Something of its own.
    Run(fn(&mut Stage) -> io::Result<()>),
    /// As `Run`, but it waits for a word on standard input in its middle.
    Hold(fn(&mut Stage) -> io::Result<()>),
}

impl Scenario {
    const fn run(
        name: &'static str,
        about: &'static str,
        run: fn(&mut Stage) -> io::Result<()>,
    ) -> Self {
        let act = Act::Run(run);
        Self { name, about, act }
    }

    /// Plays it.
    pub(crate) fn play(&self, stage: &mut Stage) -> io::Result<()> {
        match self.act {
            Act::Converse(client, server) => ways::converse(stage, client, server),
            Act::Run(run) | Act::Hold(run) => run(stage),
        }
    }

    /// Whether it runs by itself.
    pub(crate) fn runs_alone(&self) -> bool {
        !matches!(self.act, Act::Hold(_))
    }
}

/// All scenarios.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = ways::all();
    all.extend([
        Scenario::run(
            "splice-proxy",
            "bytes pass a process by in a pipe",
            ways::splice_proxy,
        ),
        Scenario::run(
            "partial-writes",
            "small buffers, non-blocking",
            ways::partial_writes,
        ),
        Scenario::run("too-early", "reads that find nothing yet", ways::too_early),
        Scenario::run(
            "untouched",
            "memory that only the kernel brings in",
            ways::untouched,
        ),
        Scenario::run(
            "io-uring",
            "no system call names the socket",
            ways::io_uring,
        ),
        Scenario::run(
            "duplicated",
            "dup and dup2, the first one closed",
            descriptors::duplicated,
        ),
        Scenario::run(
            "passed",
            "a descriptor goes to another process",
            descriptors::passed,
        ),
        Scenario::run(
            "reused",
            "another socket under the same number",
            descriptors::reused,
        ),
        Scenario::run("forked", "a child answers", descriptors::forked),
        Scenario::run(
            "executed",
            "the process becomes another program",
            descriptors::executed,
        ),
        Scenario::run("renamed", "another name on the way", descriptors::renamed),
        Scenario::run("threads", "one reads, one writes", descriptors::threads),
        Scenario::run("ipv6", "::1", kinds::ipv6),
        Scenario::run("mapped", "IPv4 on sockets of IPv6", kinds::mapped),
        Scenario::run(
            "namespace",
            "a network of its own, the same port",
            kinds::namespace,
        ),
        Scenario::run("unix", "a Unix stream socket", kinds::unix),
        Scenario::run(
            "not-sockets",
            "requests in pipes, files, datagrams",
            kinds::not_sockets,
        ),
        Scenario::run(
            "half-close",
            "the client has said all before the answer",
            shapes::half_close,
        ),
        Scenario::run("late", "the last bytes are read with the end", shapes::late),
        Scenario::run(
            "until-close",
            "a response ends with its connection",
            shapes::until_close,
        ),
        Scenario::run(
            "pipelined",
            "eight requests in one write",
            shapes::pipelined,
        ),
        Scenario::run("resp", "Redis commands in a pipeline", shapes::resp),
        Scenario::run(
            "keep-alive",
            "many requests on a connection",
            bulk::keep_alive,
        ),
        Scenario::run("download", "a large response", bulk::download),
        Scenario::run("upload", "a large request", bulk::upload),
        Scenario::run("connections", "many connections", bulk::connections),
        Scenario::run("processes", "many processes", bulk::processes),
    ]);
    all.extend(hold::all());
    all
}
