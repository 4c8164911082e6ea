//! A scan as text, for people.

use std::fmt::{self, Display, Formatter};

use crate::go::GoOffsets;
use crate::scan::{
    BuildId, Condition, ExitSite, Exits, Family, Function, Instruction, Library, Machine, Register,
    Scan, Site, Value, Why,
};

impl Display for Scan {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        if let Some(machine) = self.machine {
            write!(out, "{machine}")?;
        }
        if let Some(id) = self.build_id {
            write!(out, ", build id {id}")?;
        }
        for library in &self.found {
            write!(out, "\n{library}")?;
        }
        for reason in &self.reasons {
            write!(out, "\n! {reason}\n  → {}", reason.remedy())?;
        }
        Ok(())
    }
}

impl Display for Library {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let version = self.version.as_deref().unwrap_or("of unknown version");
        write!(out, "{} {version}", self.family)?;
        for function in &self.functions {
            write!(out, "\n  {function}")?;
        }
        if let Some(go) = self.go {
            write!(out, "\n  {go}")?;
        }
        Ok(())
    }
}

impl Display for GoOffsets {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            conn,
            descriptor,
            goid,
            parent_goid,
            tcp_conn_type,
        } = self;
        write!(
            out,
            "tls.Conn.conn {conn:#x}, netFD.pfd.Sysfd {descriptor:#x}, g.goid {goid:#x}, g.parentGoid {parent_goid:#x}, "
        )?;
        match tcp_conn_type {
            Some(address) => write!(out, "itab of *net.TCPConn {address:#x}"),
            None => out.write_str("itab of *net.TCPConn not found"),
        }
    }
}

impl Display for Function {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let start = self.start.address;
        write!(out, "{:<29} ", self.name)?;
        if let Exits::Forwards(to) = &self.exits {
            return write!(out, "goes on into {to}");
        }
        write!(out, "entry {}", self.entry.after(start))?;
        let all_returns = |sites: &[ExitSite]| {
            sites
                .iter()
                .map(|exit| exit.site)
                .eq(self.returns.iter().copied())
        };
        match &self.exits {
            Exits::Unneeded | Exits::Forwards(_) => Ok(()),
            Exits::Uretprobe(why) => write!(out, "; uretprobe ({why})"),
            Exits::Sites(sites) if sites.len() > 3 && all_returns(sites) => {
                write!(out, "; exit on each of {} returns (stepped)", sites.len())
            }
            Exits::Sites(sites) => {
                for (nth, exit) in sites.iter().enumerate() {
                    out.write_str(if nth == 0 { "; exit " } else { ", " })?;
                    exit.write(out, start)?;
                }
                Ok(())
            }
        }
    }
}

impl ExitSite {
    fn write(&self, out: &mut Formatter<'_>, start: u64) -> fmt::Result {
        write!(out, "{} = {}", self.site.after(start), self.value)?;
        match self.if_taken {
            Some(value) => write!(out, ", if taken {value}"),
            None => Ok(()),
        }
    }
}

impl Site {
    /// The site as `+0x16 js`.
    fn after(&self, start: u64) -> String {
        let sign = if self.address < start { '-' } else { '+' };
        let distance = self.address.abs_diff(start);
        format!("{sign}{distance:#x} {}", self.instruction)
    }
}

impl Display for Instruction {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nop => out.write_str("nop"),
            Self::Push => out.write_str("push"),
            Self::Call => out.write_str("call"),
            Self::Jump => out.write_str("jmp"),
            Self::Branch(condition) => write!(out, "j{condition}"),
            Self::Stepped => out.write_str("(stepped)"),
        }
    }
}

impl Display for Condition {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 16] = [
            "o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g",
        ];
        let name = NAMES.get(usize::from(self.0 & 0xf));
        out.write_str(name.copied().unwrap_or_default())
    }
}

impl Display for Value {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register(register) => write!(out, "{register}"),
            Self::Stack(above) => write!(out, "[rsp{above:+#x}]"),
            Self::Constant(constant) => write!(out, "{constant}"),
            Self::Nothing => out.write_str("nothing"),
        }
    }
}

impl Display for Register {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(&format!("{self:?}").to_lowercase())
    }
}

impl Display for Why {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::TailCall => "ends in another function",
            Self::NotUnderstood => "not understood as a whole",
            Self::Cheaper => "cheaper than its returns",
        })
    }
}

impl Display for Family {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::OpenSsl => "OpenSSL",
            Self::BoringSsl => "BoringSSL",
            Self::LibreSsl => "LibreSSL",
            Self::GnuTls => "GnuTLS",
            Self::Go => "Go crypto/tls",
        })
    }
}

impl Display for Machine {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::X86_64 => out.write_str("x86_64"),
            Self::Aarch64 => out.write_str("aarch64"),
            Self::Other(number) => write!(out, "another machine (ELF machine {number})"),
        }
    }
}

impl Display for BuildId {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "BuildId({self})")
    }
}
