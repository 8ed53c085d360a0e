//! OTLP as it leaves a program, over each transport: this test binary starts itself again as that program.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const CHILD: &str = "SPANWISE_TEST_PROGRAM";

/// The program. A test that does nothing unless it was started as the program.
#[test]
fn program() {
    let Ok(spans) = std::env::var(CHILD) else { return };
    let guard = spanwise_sdk::builder().service_name("shop").init().unwrap();
    for _ in 0..spans.parse::<u64>().unwrap() {
        tracing::info_span!("work").in_scope(|| ());
    }
    guard.flush(Duration::from_secs(20));
    println!("{:?}", guard.stats());
    drop(guard);
}

fn start(variables: &[(&str, &str)]) -> (String, String) {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["program", "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    program.env_remove("RUST_LOG").envs(variables.iter().copied());
    let Output { status, stdout, stderr } = program.output().unwrap();
    let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{err}");
    (out, err)
}

fn span_names(request: &ExportTraceServiceRequest) -> Vec<&str> {
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| &scope.spans).map(|span| span.name.as_str()).collect()
}

/// An authority, and what it has signed: files in PEM.
struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    fn make(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("certificates-{name}"));
        std::fs::create_dir_all(&directory).unwrap();
        let write = |name: &str, text: String| std::fs::write(directory.join(name), text).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        write("ca.pem", authority.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(authority, key);
        for (name, host) in [("server", "localhost"), ("client", "shop")] {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(vec![host.into()]).unwrap().signed_by(&key, &issuer).unwrap();
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap()
    }

    /// Asks clients for a certificate of the same authority.
    fn rustls(&self) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let read = |name| CertificateDer::from_pem_file(self.path(name)).unwrap();
        let mut trusted = rustls::RootCertStore::empty();
        trusted.add(read("ca.pem")).unwrap();
        let clients =
            rustls::server::WebPkiClientVerifier::builder_with_provider(trusted.into(), provider.clone()).build();
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_client_cert_verifier(clients.unwrap());
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap();
        config.with_single_cert(vec![read("server.pem")], key).unwrap().into()
    }
}

/// An OTLP/HTTP receiver behind TLS. Connections that fail the handshake are closed.
fn https_receiver(config: Arc<rustls::ServerConfig>) -> (u16, Receiver<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let _ = answer(&mut stream, &sender);
        }
    });
    (port, requests)
}

fn answer(stream: &mut (impl Read + Write), sender: &Sender<ExportTraceServiceRequest>) -> std::io::Result<()> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    let body = loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(&chunk[..read]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if bytes.len() >= end + 4 + length.parse::<usize>().unwrap() {
            break bytes.split_off(end + 4);
        }
    };
    sender.send(ExportTraceServiceRequest::decode(&body[..]).unwrap()).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    stream.flush()
}

/// What a program is told about TLS.
fn told<'a>(endpoint: &'a str, files: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    let mut variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000")];
    variables.extend(files.iter().map(|(name, path)| (*name, path.as_str())));
    variables
}

fn files(certificates: &Certificates) -> [(&'static str, String); 3] {
    [
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", certificates.path("ca.pem")),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificates.path("client.pem")),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", certificates.path("client.key")),
    ]
}

#[test]
fn https_with_certificates_of_both_sides() {
    let certificates = Certificates::make("http");
    let (port, requests) = https_receiver(certificates.rustls());
    let (endpoint, files) = (format!("https://localhost:{port}"), files(&certificates));
    let (_, log) = start(&told(&endpoint, &files));
    assert_eq!(span_names(&requests.try_recv().unwrap_or_else(|_| panic!("nothing came: {log}"))), ["work"]);
    // Who does not show a certificate is not served; whom the program does not trust gets nothing.
    for some in [&files[..1], &files[1..]] {
        let (_, log) = start(&told(&endpoint, some));
        assert!(requests.try_recv().is_err());
        assert!(log.contains("cannot deliver all spans: 0 delivered, 0 dropped (queue full), 1 failed"), "{log}");
    }
    // What cannot be read is named, and nothing is sent without it.
    let missing = [("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such.pem".to_owned())];
    let (_, log) = start(&told(&endpoint, &missing));
    assert!(log.contains("cannot set up the OTLP exporter: cannot use /no/such.pem"), "{log}");
}

/// Keeps what arrives; the first request is refused as a busy server would.
struct Busy {
    sender: Mutex<Sender<ExportTraceServiceRequest>>,
    asked: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl TraceService for Busy {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        if self.asked.fetch_add(1, Ordering::Relaxed) == 0 {
            return Err(tonic::Status::unavailable("come back later"));
        }
        self.sender.lock().unwrap().send(request.into_inner()).unwrap();
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

fn grpc_receiver(
    tls: Option<tonic::transport::ServerTlsConfig>,
) -> (SocketAddr, Receiver<ExportTraceServiceRequest>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ((sender, requests), asked) = (channel(), Arc::new(AtomicUsize::new(0)));
    let service = TraceServiceServer::new(Busy { sender: Mutex::new(sender), asked: asked.clone() });
    let service = service.accept_compressed(tonic::codec::CompressionEncoding::Gzip);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let mut server = tonic::transport::Server::builder();
            if let Some(tls) = tls {
                server = server.tls_config(tls).unwrap();
            }
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            server.add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
    });
    (address, requests, asked)
}

#[test]
fn grpc_is_tried_again_when_the_server_is_busy() {
    let (address, requests, asked) = grpc_receiver(None);
    let endpoint = format!("http://{address}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
    ];
    let (out, log) = start(&variables);
    assert!(out.contains("ended: 1, exported: 1, dropped: 0, failed: 0"), "{out}{log}");
    assert_eq!((span_names(&requests.try_recv().unwrap()), asked.load(Ordering::Relaxed)), (vec!["work"], 2));
}

#[test]
fn grpc_over_https_with_certificates_of_both_sides() {
    use tonic::transport::{Certificate, Identity, ServerTlsConfig};
    let certificates = Certificates::make("grpc");
    let identity = Identity::from_pem(certificates.text("server.pem"), certificates.text("server.key"));
    let tls = ServerTlsConfig::new().identity(identity);
    let tls = tls.client_ca_root(Certificate::from_pem(certificates.text("ca.pem")));
    let (address, requests, _) = grpc_receiver(Some(tls));
    let (endpoint, files) = (format!("https://localhost:{}", address.port()), files(&certificates));
    let grpc = |files: &[(&'static str, String)]| {
        let mut variables = told(&endpoint, files);
        variables.push(("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"));
        start(&variables)
    };
    let (out, log) = grpc(&files);
    assert!(out.contains("exported: 1"), "{out}{log}");
    assert_eq!(span_names(&requests.try_recv().unwrap()), ["work"]);
    let (out, _) = grpc(&files[..1]);
    assert!(out.contains("exported: 0") && requests.try_recv().is_err(), "{out}");
}
