//! TLS with certificates of one's own, to nginx in front of a backend. Where nginx or openssl is missing
//! the test says so and checks nothing.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::receiver::{Receiver, Speaks};
use crate::replay;

/// A folder with certificates, and what answers with them.
struct Front {
    folder: PathBuf,
    port: u16,
    nginx: Child,
}

impl Front {
    /// In front of `receiver`; `None` where a program is missing.
    fn start(receiver: &Receiver, pass: &str) -> Option<Self> {
        for program in ["openssl", "nginx"] {
            let version = if program == "nginx" { "-v" } else { "version" };
            let found = Command::new(program).arg(version).output();
            if !found.is_ok_and(|done| done.status.success()) {
                eprintln!("skipped: there is no {program}");
                return None;
            }
        }
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let name = format!("wirespan-otlp-tls-{}-{port}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        certificates(&folder);
        let at = folder.display();
        let configuration = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;\n\
             fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
             server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {at}/server.pem;\n\
             ssl_certificate_key {at}/server.key; ssl_client_certificate {at}/ca.pem;\n\
             ssl_verify_client on; client_max_body_size 0;\n\
             location / {{ {pass}{}; }} }} }}\n",
            receiver.address
        );
        fs::write(folder.join("conf"), configuration).expect("written");
        let mut nginx = Command::new("nginx");
        nginx
            .arg("-c")
            .arg(folder.join("conf"))
            .stderr(Stdio::null());
        let nginx = nginx.spawn().expect("nginx runs");
        let front = Self {
            folder,
            port,
            nginx,
        };
        let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        let waited = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            listens()
        });
        let log = fs::read_to_string(front.folder.join("error.log")).unwrap_or_default();
        assert!(waited, "nginx does not listen: {log}");
        Some(front)
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// An authority, and what it has signed: a server's certificate and a client's.
fn certificates(folder: &Path) {
    let openssl = |line: &str| {
        let mut program = Command::new("openssl");
        program.args(line.split_whitespace()).current_dir(folder);
        let done = program.output().expect("openssl runs");
        let complaint = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{line}: {complaint}");
    };
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {new} -subj /CN=authority -days 2 -keyout ca.key -out ca.pem"
    ));
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("written");
    for name in ["server", "client"] {
        openssl(&format!(
            "req {new} -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -extfile names -out {name}.pem"
        ));
    }
}

fn with_certificates(speaks: Speaks, protocol: &str, pass: &str) {
    let receiver = Receiver::start(speaks);
    let Some(front) = Front::start(&receiver, pass) else {
        return;
    };
    let url = format!("https://127.0.0.1:{}", front.port);
    let file = |name| front.file(name);
    let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let trusting = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.as_str()),
    ];
    let own = [
        (
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            certificate.as_str(),
        ),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key.as_str()),
    ];
    let done = replay("demo/demo.pcap", &url, &[trusting, own].concat());
    let complaint = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{complaint}");
    assert_eq!(receiver.received(|received| received.spans()), 110);
    // Without a certificate of its own it is turned away.
    let done = replay("demo/demo.pcap", &url, &trusting);
    assert_eq!(done.status.code(), Some(5));
    assert_eq!(receiver.received(|received| received.spans()), 110);
}

#[test]
fn over_http_with_certificates_of_ones_own() {
    with_certificates(Speaks::Http, "http/protobuf", "proxy_pass http://");
}

#[test]
fn over_grpc_with_certificates_of_ones_own() {
    with_certificates(Speaks::Grpc, "grpc", "grpc_pass grpc://");
}

#[test]
fn a_file_that_is_none_is_named() {
    let nowhere = [("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "/nowhere/ca.pem")];
    let none = [("OTEL_EXPORTER_OTLP_CERTIFICATE", "/proc/self/status")];
    for protocol in ["grpc", "http/protobuf"] {
        for variable in [nowhere, none] {
            let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
            let variables = [variable[0], protocol];
            let done = replay("demo/demo.pcap", "https://127.0.0.1:1", &variables);
            let complaint = String::from_utf8_lossy(&done.stderr);
            assert!(!done.status.success());
            assert!(complaint.contains(variable[0].0), "{complaint}");
            assert!(complaint.contains(variable[0].1), "{complaint}");
        }
    }
}
