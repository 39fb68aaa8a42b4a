//! Pages on loopback, behind a password, as Envoy answers them.

use anyhow::Result;
use base64::Engine;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use testrelay::surface::page;
use testrelay::surface::problem::Reply;

const USER: &str = "people";
const PASSWORD: &str = "password-of-people-3d5a";

/// What answers the path and query of a request.
type Answer = Box<dyn Fn(&str) -> Reply + Send>;

/// Where pages are, and who may see them.
pub(super) struct Site {
    pub(super) address: SocketAddr,
    pub(super) user: &'static str,
    pub(super) password: &'static str,
}

impl Site {
    /// The address of a path.
    pub(super) fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The same, as somebody types it who knows the password.
    pub(super) fn log_in(&self, path: &str) -> String {
        let Site { address, user, password } = self;
        format!("http://{user}:{password}@{address}{path}")
    }
}

/// A server of pages. It ends with the test program.
pub(super) struct Pages {
    pub(super) site: Site,
    answer: Arc<Mutex<Answer>>,
}

impl Pages {
    pub(super) fn serve(answer: impl Fn(&str) -> Reply + Send + 'static) -> Result<Pages> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
        let shared = answer.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                // A browser that has gone needs no answer.
                std::thread::spawn(move || drop(one(stream, &shared)));
            }
        });
        Ok(Pages { site: Site { address, user: USER, password: PASSWORD }, answer })
    }

    /// Answers otherwise from now on.
    pub(super) fn now_answers(&self, answer: impl Fn(&str) -> Reply + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }
}

fn one(mut stream: TcpStream, answer: &Mutex<Answer>) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let mut knows = false;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        knows |= line.split_once(": ").is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("authorization") && value == format!("Basic {credentials}")
        });
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let reply = match (path, knows) {
        ("/favicon.ico", _) => Reply::text(404, "none"),
        (_, false) => page::problem(Reply::problem(401, "Unknown credential", "Log in."), super::BASE),
        (_, true) => answer.lock().unwrap()(path),
    };
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", reply.body.len()));
    stream.write_all(head.as_bytes())?;
    stream.write_all(reply.body.as_bytes())?;
    Ok(())
}
