//! What a process's environment says of its service: `OTEL_SERVICE_NAME` and
//! `OTEL_RESOURCE_ATTRIBUTES`. Nothing else of it is looked at: the rest is full of secrets.

/// Attributes that are taken at most.
const MAX_ATTRIBUTES: usize = 64;
/// Longest key, and longest value, in bytes. What is longer is no attribute of a resource.
const MAX_TEXT: usize = 255;

/// What a process says of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Declared {
    /// `OTEL_SERVICE_NAME`, else `service.name` of the attributes.
    pub service: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES`, without `service.name`; each key once.
    pub attributes: Vec<(String, String)>,
}

impl Declared {
    /// Reads `/proc/PID/environ`: `NAME=value` with zeros between.
    #[must_use]
    pub fn read(environ: &[u8]) -> Self {
        let mut declared = Self::default();
        let mut name = None;
        for variable in environ.split(|byte| *byte == 0) {
            // Of a variable that is there twice programs see the first.
            if let Some(value) = variable.strip_prefix(b"OTEL_SERVICE_NAME=") {
                name = name.or(Some(value));
            } else if let Some(value) = variable.strip_prefix(b"OTEL_RESOURCE_ATTRIBUTES=")
                && declared == Self::default()
            {
                declared.resource(value);
            }
        }
        let name = name.and_then(|name| str::from_utf8(name).ok());
        if let Some(name) = name.and_then(usable) {
            declared.service = Some(name.to_owned());
        }
        declared
    }

    /// The value of an attribute.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        let found = attributes.find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str())
    }

    /// `key=value,key=value`, percent-encoded as W3C baggage is. An entry that is none is passed over.
    fn resource(&mut self, text: &[u8]) {
        for entry in text.split(|byte| *byte == b',') {
            let mut parts = entry.splitn(2, |byte| *byte == b'=');
            let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
                continue;
            };
            let (key, value) = (decoded(key), decoded(value));
            let (Some(key), Some(value)) = (key, value) else {
                continue;
            };
            if self.attributes.len() == MAX_ATTRIBUTES {
                return;
            }
            if key == "service.name" {
                self.service.get_or_insert(value);
            } else if self.get(&key).is_none() {
                self.attributes.push((key, value));
            }
        }
    }
}

fn usable(text: &str) -> Option<&str> {
    let text = text.trim();
    let plain = !text.is_empty() && text.len() <= MAX_TEXT && !text.contains(char::is_control);
    plain.then_some(text)
}

fn decoded(bytes: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(bytes.len().min(MAX_TEXT));
    let mut rest = bytes.trim_ascii();
    while let [byte, tail @ ..] = rest {
        let (byte, tail) = match (byte, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let value = digit(*high)? * 16 + digit(*low)?;
                (u8::try_from(value).ok()?, tail)
            }
            _ => (*byte, tail),
        };
        if out.len() > MAX_TEXT {
            return None;
        }
        out.push(byte);
        rest = tail;
    }
    let text = String::from_utf8(out).ok()?;
    usable(&text).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[&str]) -> Declared {
        Declared::read(variables.join("\0").as_bytes())
    }

    #[test]
    fn the_name_comes_before_the_attributes() {
        let both = [
            "A=b",
            "OTEL_RESOURCE_ATTRIBUTES=service.name=a,x=y",
            "OTEL_SERVICE_NAME=b",
        ];
        let declared = read(&both);
        assert_eq!(declared.service.as_deref(), Some("b"));
        assert_eq!(declared.attributes, [("x".into(), "y".into())]);
        assert_eq!(read(&both[..2]).service.as_deref(), Some("a"));
        assert_eq!(read(&["OTEL_SERVICE_NAME="]), Declared::default());
        assert_eq!(
            read(&["XOTEL_SERVICE_NAME=a", "otel_service_name=a"]),
            Declared::default()
        );
        assert_eq!(
            read(&["OTEL_SERVICE_NAME=a", "OTEL_SERVICE_NAME=b"])
                .service
                .as_deref(),
            Some("a")
        );
    }

    #[test]
    fn attributes_are_decoded_and_what_is_none_is_passed_over() {
        let text = "OTEL_RESOURCE_ATTRIBUTES= service.namespace = shop ,a=b%2Cc%3D,nothing,=x,d=,e=%zz,f=1=2,a=again,g=%ff";
        let declared = read(&[text]);
        let expected = [("service.namespace", "shop"), ("a", "b,c="), ("f", "1=2")];
        assert_eq!(
            declared.attributes,
            expected.map(|(key, value)| (key.into(), value.into()))
        );
        assert_eq!(declared.get("a"), Some("b,c="));
    }

    #[test]
    fn hostile_environments_are_bounded() {
        let many: Vec<String> = (0..10_000).map(|n| format!("k{n}=v")).collect();
        let declared = read(&[&format!("OTEL_RESOURCE_ATTRIBUTES={}", many.join(","))]);
        assert_eq!(declared.attributes.len(), MAX_ATTRIBUTES);
        let long = "x".repeat(1 << 20);
        for text in [
            format!("OTEL_SERVICE_NAME={long}"),
            format!("OTEL_RESOURCE_ATTRIBUTES=a={long},{long}=b"),
            "OTEL_SERVICE_NAME=a\nb".into(),
        ] {
            assert_eq!(read(&[&text]), Declared::default());
        }
        let mut bytes =
            b"OTEL_SERVICE_NAME=\xff\0OTEL_RESOURCE_ATTRIBUTES=a=\xfe,\xfd=b,c=d\0".to_vec();
        bytes.extend(vec![0; 1 << 20]);
        let declared = Declared::read(&bytes);
        assert_eq!((declared.service, declared.attributes.len()), (None, 1));
    }
}
