//! What a file's constants say of the TLS library in it.

use memchr::memmem;

use crate::elf::Image;
use crate::reason::Reason;
use crate::scan::Family;

/// Longest version that is believed; nor is any trace longer.
const LONGEST: usize = 24;

/// The version of a library, as it says itself; else what the versions of its symbols imply.
pub(crate) fn version(image: &Image<'_>, family: Family) -> Option<String> {
    let said: &[&[u8]] = match family {
        Family::OpenSsl => &[b"OpenSSL "],
        Family::LibreSsl => &[b"LibreSSL "],
        Family::GnuTls => &[b"GnuTLS "],
        Family::BoringSsl | Family::Go => &[],
    };
    let said = said.iter().find_map(|word| number_after(image, word));
    said.or_else(|| implied(image, family))
}

/// A TLS library that is in the file by its constants: names of source files in its error messages.
pub(crate) fn trace(image: &Image<'_>) -> Option<Reason> {
    image.trace.get_or_init(|| search(image)).clone()
}

fn search(image: &Image<'_>) -> Option<Reason> {
    const TRACES: [(&[u8], Reason); 4] = [
        (b"ssl/ssl_lib.cc\0", Reason::Stripped(Family::BoringSsl)),
        (b"ssl/ssl_lib.c\0", Reason::Stripped(Family::OpenSsl)),
        (b"/rustls-0.", Reason::Unsupported("rustls")),
        (b"GnuTLS internal error", Reason::Stripped(Family::GnuTls)),
    ];
    let constants = image.range(image.section(b".rodata")?)?;
    let mut seen = [false; TRACES.len()];
    let finders = TRACES.map(|(trace, _)| memmem::Finder::new(trace));
    image.file().windows(constants, LONGEST, |_, window| {
        for (finder, seen) in finders.iter().zip(&mut seen) {
            *seen = *seen || finder.find(window).is_some();
        }
        seen[0]
    });
    let mut traces = TRACES.into_iter().zip(seen);
    traces.find_map(|((_, reason), seen)| seen.then_some(reason))
}

/// The highest of the versions that the library's symbols carry.
fn implied(image: &Image<'_>, family: Family) -> Option<String> {
    let prefix: &[u8] = match family {
        Family::OpenSsl => b"OPENSSL_",
        Family::GnuTls => b"GNUTLS_",
        Family::LibreSsl | Family::BoringSsl | Family::Go => return None,
    };
    let names = image.data(image.section(b".dynstr")?)?;
    let versions = memmem::find_iter(names, prefix).filter_map(|at| {
        let rest = names.get(at..)?.get(prefix.len()..)?;
        let number = number(rest)?;
        (rest.get(number.len()) == Some(&0)).then_some(number)
    });
    let highest = versions.max_by_key(|version| -> Vec<u32> {
        let parts = version.split(|c: char| !c.is_ascii_digit());
        parts.filter_map(|part| part.parse().ok()).collect()
    })?;
    Some(format!("≥ {}", highest.replace('_', ".")))
}

/// The version behind the first `word` among the constants that is followed by one, of three parts.
fn number_after(image: &Image<'_>, word: &[u8]) -> Option<String> {
    let constants = image.range(image.section(b".rodata")?)?;
    let (end, finder) = (constants.end, memmem::Finder::new(word));
    let mut found = None;
    let again = word.len().saturating_add(LONGEST);
    image.file().windows(constants, again, |offset, window| {
        let is_last = offset.checked_add(window.len() as u64) == Some(end);
        found = finder.find_iter(window).find_map(|at| {
            let rest = window.get(at..)?.get(word.len()..)?;
            // What is cut off is whole in the next window.
            let number = number(rest).filter(|_| is_last || rest.len() >= LONGEST)?;
            (number.matches('.').count() >= 2).then(|| number.to_owned())
        });
        found.is_some()
    });
    found
}

/// Digits, dots and underscores, with a letter behind them (`1.0.2u`).
fn number(bytes: &[u8]) -> Option<&str> {
    let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
    let digits = |byte: &&u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'_');
    let end = bytes.iter().take_while(digits).count();
    let letter = usize::from(bytes.get(end).is_some_and(u8::is_ascii_lowercase));
    let text = str::from_utf8(bytes.get(..end.saturating_add(letter))?).ok()?;
    text.starts_with(|c: char| c.is_ascii_digit())
        .then_some(text)
}
