//! Lists of pairs in variables of the environment.

/// Reads `key=value,key=value`, values percent-encoded (W3C Baggage, without properties), as the
/// variables of OpenTelemetry have it; `None` where it is none.
#[must_use]
pub fn read_pairs(list: &str) -> Option<Vec<(String, String)>> {
    let items = list
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    let pair = |item: &str| {
        let (key, value) = item.split_once('=')?;
        let key = key.trim();
        let legal = !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic());
        legal.then_some(())?;
        Some((key.to_ascii_lowercase(), percent_decoded(value.trim())?))
    };
    items.map(pair).collect()
}

/// Writes what [`read_pairs`] reads.
#[must_use]
pub fn write_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut list = String::new();
    for (key, value) in pairs {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(key);
        list.push('=');
        for byte in value.bytes() {
            match byte {
                b'%' | b',' | b';' | b'"' | b'\\' => list.push_str(&format!("%{byte:02X}")),
                0x21..=0x7e => list.push(char::from(byte)),
                _ => list.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    list
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |b: &u8| char::from(*b).to_digit(16);
                bytes.push((digit(high)? * 16 + digit(low)?) as u8);
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}
