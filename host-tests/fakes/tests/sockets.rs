//! What needs a real socket: raw targets, resets, broken bodies, TLS.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fakes::testkube::{Fault, Route};
use fakes::{Database, Identity, Server, Span, Status, Testkube, execution};
use fakes::{Reply, Request, Response, Service};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Gives the same reply to every request and records the requests.
struct Fixed {
    reply: Reply,
    asked: Vec<Request>,
}

impl Service for Fixed {
    fn handle(&mut self, now: i64, request: &Request) -> Reply {
        assert!(now > 1_700_000_000_000, "the wall clock in Unix milliseconds");
        self.asked.push(request.clone());
        self.reply.clone()
    }
}

fn fixed(reply: impl Into<Reply>) -> (Arc<Mutex<Fixed>>, Server) {
    let service = Arc::new(Mutex::new(Fixed { reply: reply.into(), asked: Vec::new() }));
    let server = Server::start(Arc::clone(&service)).unwrap();
    (service, server)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends one request and reads until the connection is closed, however it is.
fn exchange(server: &Server, request: &[u8]) -> Vec<u8> {
    let mut stream = connect(server);
    stream.write_all(request).unwrap();
    read_all(&mut stream)
}

fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return got,
            Ok(read) => got.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("no end: {got:?}"),
            Err(_) => return got,
        }
    }
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes()
}

fn split(answer: &[u8]) -> (String, Vec<u8>) {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("headers");
    (String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase(), answer[end + 4..].to_vec())
}

#[test]
fn a_target_arrives_as_it_was_sent() {
    let (service, server) = fixed(Response::new(204));
    let targets = ["//a//b/../c", "/a%2Fb%252Fc", "/x?tag=%3D&y=a+b&&", "/?", "/%zz?%"];
    for target in targets {
        let (head, body) = split(&exchange(&server, &get(target)));
        assert!(head.starts_with("http/1.1 204"), "{head}");
        assert!(body.is_empty());
    }
    let asked: Vec<_> = service.lock().unwrap().asked.iter().map(|request| request.target.clone()).collect();
    assert_eq!(asked, targets);
}

#[test]
fn header_bytes_outside_utf_8_survive_and_chunks_are_joined() {
    let (service, server) = fixed(Response::new(204));
    let request = b"POST / HTTP/1.1\r\nHost: x\r\nX-Odd: caf\xe9\r\nConnection: close\r\n\
                    Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    exchange(&server, request);
    let asked = &service.lock().unwrap().asked[0];
    assert!(asked.headers.contains(&("x-odd".into(), b"caf\xe9".to_vec())));
    assert_eq!((asked.method.as_str(), asked.body.as_slice()), ("POST", &b"abcde"[..]));
}

#[test]
fn each_connection_has_its_number_and_keeps_it() {
    let (service, server) = fixed(Response::with_body(200, "text/plain", "ok"));
    let mut stream = connect(&server);
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut buffer = [0; 4096];
        assert!(stream.read(&mut buffer).unwrap() > 0);
    }
    exchange(&server, &get("/"));
    let numbers: Vec<_> = service.lock().unwrap().asked.iter().map(|request| request.connection).collect();
    assert_eq!(numbers, [1, 1, 2]);
}

#[test]
fn head_has_the_length_and_no_body() {
    let (_service, server) = fixed(Response::with_body(200, "text/plain", "hello"));
    let answer = exchange(&server, b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let (head, body) = split(&answer);
    assert!(head.contains("content-length: 5"), "{head}");
    assert!(body.is_empty());
}

#[test]
fn a_reset_comes_before_any_byte() {
    let (_service, server) = fixed(Reply::Reset);
    assert_eq!(exchange(&server, &get("/")), b"");
}

#[test]
fn a_truncated_answer_promises_more_than_it_sends() {
    let response = Response::with_body(200, "application/json", vec![b'x'; 100]);
    for bytes in [0, 40] {
        let (_service, server) = fixed(Reply::Truncated { response: response.clone(), bytes });
        let (head, body) = split(&exchange(&server, &get("/")));
        assert!(head.contains("content-length: 100"), "{head}");
        assert_eq!(body.len(), bytes);
    }
    let chunked = response.header("transfer-encoding", "chunked");
    let (_service, server) = fixed(Reply::Truncated { response: chunked, bytes: 40 });
    let (head, body) = split(&exchange(&server, &get("/")));
    assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-length"), "{head}");
    assert!(!body.ends_with(b"0\r\n\r\n"));
}

#[test]
fn a_dribbled_answer_is_complete_in_the_end() {
    let response = Response::with_body(200, "text/plain", "0123456789");
    let (_service, server) = fixed(Reply::Dribble { response, chunk: 4, millis: 30 });
    let begun = Instant::now();
    let (head, body) = split(&exchange(&server, &get("/")));
    assert!(head.contains("content-length: 10"), "{head}");
    assert_eq!(body, b"0123456789");
    assert!(begun.elapsed() >= Duration::from_millis(60));
}

#[test]
fn a_late_answer_does_not_hold_up_the_others() {
    let late = Reply::After { millis: 60_000, reply: Box::new(Response::new(204).into()) };
    let (service, server) = fixed(late);
    let mut waiting = connect(&server);
    waiting.write_all(&get("/late")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while service.lock().unwrap().asked.is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    service.lock().unwrap().reply = Response::new(204).into();
    assert!(!exchange(&server, &get("/")).is_empty());
    drop(server);
    assert_eq!(read_all(&mut waiting), b"", "a stopped server closes what is open");
}

#[test]
fn a_server_comes_back_where_it_was() {
    let (service, server) = fixed(Response::new(204));
    let address = server.addr();
    exchange(&server, &get("/"));
    drop(server);
    assert!(TcpStream::connect(address).is_err());
    let server = Server::start_on(address, service).unwrap();
    assert!(!exchange(&server, &get("/")).is_empty());
}

#[test]
fn a_fake_behind_a_socket_streams_its_artifacts_in_chunks() {
    let mut testkube = Testkube::new(Database::Postgres);
    let id = testkube.add(execution("shop").at(0, Status::Passed).artifact("results/junit.xml", "<a/>"));
    testkube.fault(Route::Artifact, Span::Next(1), Fault::Reset);
    let server = Server::start(Arc::new(Mutex::new(testkube))).unwrap();
    let target = format!("/v1/test-workflow-executions/{id}/artifacts/results%252Fjunit.xml");
    assert_eq!(exchange(&server, &get(&target)), b"");
    let (head, body) = split(&exchange(&server, &get(&target)));
    assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-length"), "{head}");
    assert_eq!(body, b"4\r\n<a/>\r\n0\r\n\r\n");
}

#[test]
fn tls_is_trusted_by_its_own_authority_and_under_its_own_names_only() {
    let identity = Identity::for_names(&["dev.azure.com"]).unwrap();
    let service = Fixed { reply: Response::with_body(200, "text/plain", "ok").into(), asked: Vec::new() };
    let server = Server::start_tls(Arc::new(Mutex::new(service)), &identity).unwrap();
    let ask = |name: &'static str, authority: &Identity| -> io::Result<Vec<u8>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(connection, connect(&server));
        stream.write_all(&get("/"))?;
        Ok(read_all(&mut stream))
    };
    let (_, body) = split(&ask("dev.azure.com", &identity).unwrap());
    assert_eq!(body, b"ok");
    assert!(ask("evil.example", &identity).is_err());
    let stranger = Identity::for_names(&["dev.azure.com"]).unwrap();
    assert!(ask("dev.azure.com", &stranger).is_err());
}
