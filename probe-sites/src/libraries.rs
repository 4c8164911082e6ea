//! Libraries in C: which of their functions are probed, and whose they are.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::code::{Explorer, Tail};
use crate::elf::{Image, Symbol};
use crate::entry::{SYSTEM_V, entry};
use crate::exits::exits;
use crate::reason::Reason;
use crate::scan::{Exits, Family, Function, Library, Machine, Role, Scan};
use crate::stripped::{self, Found};

/// Functions probed in one file at most; some programs carry two or three copies of a library.
const MAX_FUNCTIONS: usize = 128;

/// The API that OpenSSL, BoringSSL and LibreSSL share, as far as they have it.
const SSL: &[(&str, Role)] = &[
    ("SSL_write", Role::Write),
    ("SSL_read", Role::Read),
    ("SSL_write_ex", Role::WriteEx),
    ("SSL_write_ex2", Role::WriteEx2),
    ("SSL_read_ex", Role::ReadEx),
    ("SSL_peek", Role::Peek),
    ("SSL_peek_ex", Role::PeekEx),
    ("SSL_write_early_data", Role::WriteEarly),
    ("SSL_read_early_data", Role::ReadEarly),
    ("SSL_sendfile", Role::Sendfile),
    ("SSL_set_fd", Role::SetFd),
    ("SSL_set_rfd", Role::SetReadFd),
    ("SSL_set_wfd", Role::SetWriteFd),
    ("SSL_do_handshake", Role::Handshake),
    ("SSL_connect", Role::Connect),
    ("SSL_accept", Role::Accept),
    ("SSL_shutdown", Role::Shutdown),
    ("SSL_free", Role::Free),
];

/// GnuTLS. `gnutls_record_send_range` and `gnutls_record_send_file` go through
/// `gnutls_record_send`, `gnutls_transport_set_int` is a macro on `gnutls_transport_set_int2`.
const GNUTLS: &[(&str, Role)] = &[
    ("gnutls_record_send", Role::Write),
    ("gnutls_record_send2", Role::Write),
    ("gnutls_record_recv", Role::Read),
    ("gnutls_record_recv_seq", Role::Read),
    ("gnutls_record_recv_early_data", Role::Read),
    ("gnutls_transport_set_int2", Role::SetFds),
    ("gnutls_handshake", Role::Handshake),
    ("gnutls_bye", Role::Shutdown),
    ("gnutls_deinit", Role::Free),
];

/// What cannot be missing: without it, bytes pass unseen.
const ESSENTIAL: [&str; 4] = [
    "SSL_write",
    "SSL_read",
    "gnutls_record_send",
    "gnutls_record_recv",
];

/// Adds the libraries in C that `image` has, and what is amiss with them.
pub(crate) fn scan(image: &Image<'_>, scan: &mut Scan) {
    let mut candidates = Candidates::by_symbol(image, &mut scan.reasons);
    let stripped = candidates.functions.is_empty();
    if stripped && image.machine == Machine::X86_64 {
        candidates.find_without_symbols(image);
    }
    if candidates.functions.is_empty() {
        return;
    }
    if image.machine != Machine::X86_64 {
        scan.reasons.push(Reason::Machine(image.machine));
        return;
    }
    let listed = Listed {
        explorer: Explorer::new(image),
        names: candidates.names(),
    };
    let mut found: BTreeMap<Family, Vec<Function>> = BTreeMap::new();
    for (name, role, symbol) in candidates.functions.into_values() {
        let family = family(name, &candidates.marks);
        match listed.function(family, name, role, symbol) {
            Ok(function) => found.entry(family).or_default().push(function),
            Err(reason) => scan.reasons.push(reason),
        }
    }
    for (family, mut functions) in found {
        functions.sort_by_key(|function| (function.role, function.start.address));
        if !stripped {
            scan.reasons.extend(missing(family, &functions));
        }
        // A stub of something that was not compiled in: it always fails.
        functions.retain(|function| function.exits != Exits::Sites(Vec::new()));
        scan.found.push(Library {
            family,
            version: crate::content::version(image, family),
            functions,
            go: None,
        });
    }
}

/// Functions that may be probed, and what tells whose they are.
#[derive(Default)]
struct Candidates {
    /// By address: several names of one place are one function.
    functions: BTreeMap<u64, (&'static str, Role, Symbol<'static>)>,
    marks: HashSet<Family>,
}

impl Candidates {
    fn by_symbol(image: &Image<'_>, reasons: &mut Vec<Reason>) -> Self {
        let table: HashMap<&[u8], (&'static str, Role)> = SSL
            .iter()
            .chain(GNUTLS)
            .map(|(name, role)| (name.as_bytes(), (*name, *role)))
            .collect();
        let names = SSL.iter().chain(GNUTLS).map(|(name, _)| *name);
        let others = OTHERS.iter().map(|(name, _)| *name);
        let marks = MARKS.iter().map(|(name, _)| *name);
        let names: Vec<&str> = names.chain(others).chain(marks).collect();
        let mut candidates = Self::default();
        for symbol in image.functions(&names) {
            let other = of_name(&OTHERS, symbol.name).map(Reason::Unsupported);
            reasons.extend(other.filter(|other| !reasons.contains(other)));
            candidates.marks.extend(of_name(&MARKS, symbol.name));
            let Some((name, role)) = table.get(symbol.name) else {
                continue;
            };
            if candidates.functions.len() >= MAX_FUNCTIONS {
                reasons.push(Reason::TooMany("TLS functions"));
                break;
            }
            let place = candidates.functions.entry(symbol.address);
            place.or_insert((name, *role, symbol));
        }
        candidates
    }

    fn find_without_symbols(&mut self, image: &Image<'_>) {
        let (found, family) = match crate::content::trace(image) {
            Some(Reason::Stripped(Family::BoringSsl)) => {
                (stripped::boringssl(image), Family::BoringSsl)
            }
            Some(Reason::Stripped(Family::OpenSsl)) => (stripped::openssl(image), Family::OpenSsl),
            _ => return,
        };
        self.marks.insert(family);
        for Found { name, role, symbol } in found.into_iter().flatten() {
            self.functions.insert(symbol.address, (name, role, symbol));
        }
    }

    fn names(&self) -> BTreeMap<u64, &'static str> {
        let names = self.functions.iter();
        names.map(|(at, (name, ..))| (*at, *name)).collect()
    }
}

/// What a table has for a symbol's name.
fn of_name<T: Copy>(table: &[(&str, T)], name: &[u8]) -> Option<T> {
    let mut rows = table.iter();
    let row = rows.find(|(known, _)| known.as_bytes() == name);
    row.map(|(_, value)| *value)
}

/// Functions that show TLS libraries which are not probed.
const OTHERS: [(&str, &str); 4] = [
    ("SSL_ImportFD", "NSS"),
    ("s2n_send", "s2n-tls"),
    ("mbedtls_ssl_write", "Mbed TLS"),
    ("wolfSSL_write", "wolfSSL"),
];

/// Functions that only one of the relatives has.
const MARKS: [(&str, Family); 4] = [
    ("SSL_CTX_set_custom_verify", Family::BoringSsl),
    ("SSL_CTX_set_private_key_method", Family::BoringSsl),
    ("SSL_CTX_load_verify_mem", Family::LibreSsl),
    ("SSL_CTX_use_certificate_chain_mem", Family::LibreSsl),
];

fn family(name: &str, marks: &HashSet<Family>) -> Family {
    if name.starts_with("gnutls_") {
        Family::GnuTls
    } else if marks.contains(&Family::BoringSsl) {
        Family::BoringSsl
    } else if marks.contains(&Family::LibreSsl) {
        Family::LibreSsl
    } else {
        Family::OpenSsl
    }
}

fn missing(family: Family, functions: &[Function]) -> impl Iterator<Item = Reason> {
    let gnutls = family == Family::GnuTls;
    ESSENTIAL
        .into_iter()
        .filter(move |name| name.starts_with("gnutls_") == gnutls)
        .filter(|name| functions.iter().all(|function| function.name != *name))
        .map(move |name| Reason::Missing(family, name))
}

/// The functions of one file that are of interest.
struct Listed<'a> {
    explorer: Explorer<'a>,
    /// Their names by address.
    names: BTreeMap<u64, &'static str>,
}

impl Listed<'_> {
    fn function(
        &self,
        family: Family,
        name: &'static str,
        role: Role,
        symbol: Symbol<'_>,
    ) -> Result<Function, Reason> {
        let flow = self.explorer.explore(symbol);
        let start = self.explorer.start(&flow, name)?;
        let arguments = SYSTEM_V.get(..usize::from(role.arguments()));
        let mut entry = entry(&self.explorer, &flow, arguments.unwrap_or(&SYSTEM_V))
            .ok_or(Reason::NotCode(name))?;
        let (mut exits, returns) = exits(&self.explorer, &flow, role.returns(family));
        if let Some(to) = flow.forwards().and_then(|tail| self.name(tail)) {
            exits = Exits::Forwards(Cow::Borrowed(to));
        } else if matches!(exits, Exits::Uretprobe(_)) {
            entry = start;
        }
        Ok(Function {
            role,
            name: Cow::Borrowed(name),
            start,
            entry,
            exits,
            returns,
        })
    }

    fn name(&self, tail: &Tail) -> Option<&'static str> {
        match tail {
            Tail::Address(address) => self.names.get(address).copied(),
            Tail::Import(import) => {
                let mut names = self.names.values();
                names.find(|name| name.as_bytes() == import).copied()
            }
            Tail::Anywhere => None,
        }
    }
}
