//! What is found without symbols is what the symbols say.

use std::collections::BTreeMap;

use wirespan_probe_sites::scan;

/// A large program with OpenSSL inside, and its symbols.
const NODE: &str = "/usr/bin/node";

/// Makes unknown sections of ELF's tables of symbols (types 2 and 11).
fn strip(file: &mut [u8]) {
    let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let table = word(0x28) as usize;
    let count = u16::from_le_bytes(file[0x3c..0x3e].try_into().unwrap());
    for header in (0..count.into()).map(|nth: usize| table + 64 * nth) {
        if matches!(file[header + 4], 2 | 11) {
            file[header + 4] = 0;
        }
    }
}

/// Addresses by name.
fn functions(file: &[u8]) -> BTreeMap<String, Vec<u64>> {
    let mut functions: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for function in scan(file)
        .found
        .iter()
        .flat_map(|library| &library.functions)
    {
        let addresses = functions.entry(function.name.to_string()).or_default();
        addresses.push(function.start.address);
    }
    functions
}

#[test]
fn openssl_is_found_in_a_stripped_program_where_its_symbols_were() {
    let Ok(mut file) = std::fs::read(NODE) else {
        eprintln!("skipped: no Node on this machine");
        return;
    };
    let by_symbols = functions(&file);
    strip(&mut file);
    let without = functions(&file);
    let moving = [
        "SSL_read",
        "SSL_write",
        "ssl_read_internal",
        "ssl_write_internal",
    ];
    assert_eq!(
        without.keys().map(String::as_str).collect::<Vec<_>>(),
        moving
    );
    // The last two are those that have a copy of them, and the function itself.
    let same = |name: &str, other: &str| assert_eq!(without[name][0], by_symbols[other][0]);
    same("SSL_read", "SSL_read");
    same("SSL_write", "SSL_write");
    for (name, wrapper) in [
        ("ssl_read_internal", "SSL_read_ex"),
        ("ssl_write_internal", "SSL_write_ex"),
    ] {
        assert!(without[name].contains(&by_symbols[wrapper][0]), "{wrapper}");
    }
}
