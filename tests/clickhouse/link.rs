//! A way to the server that can be cut: between an insert, which the server has done, and its answer.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

/// Everything passes.
const PASS: u8 = 0;
/// The next answer to an insert is dropped, and the connection with it.
const CUT_ONE: u8 = 1;
/// Answers to inserts are held back.
const HOLD: u8 = 2;

/// Forwards connections to the server, and notes the deduplication tokens of inserts.
pub struct Link {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    server: String,
    mode: AtomicU8,
    tokens: Mutex<Vec<String>>,
    /// The password that is asked for, in place of the server's own.
    password: Mutex<Option<String>>,
}

impl Link {
    /// A link to `http://host:port`.
    pub fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = url.trim_start_matches("http://").to_string();
        let shared = Arc::new(Shared {
            server,
            mode: AtomicU8::new(PASS),
            tokens: Mutex::default(),
            password: Mutex::default(),
        });
        let forward = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&forward);
                std::thread::spawn(move || shared.forward(client));
            }
        });
        Self { port, shared }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn cut_one(&self) {
        self.shared.mode.store(CUT_ONE, Ordering::SeqCst);
    }

    pub fn hold(&self) {
        self.shared.mode.store(HOLD, Ordering::SeqCst);
    }

    pub fn pass(&self) {
        self.shared.mode.store(PASS, Ordering::SeqCst);
    }

    /// Asks for this password from now on, also on connections that are open.
    pub fn set_password(&self, password: &str) {
        *self.shared.password.lock().unwrap() = Some(password.into());
    }

    /// Whether an ordered cut has happened.
    pub fn has_cut(&self) -> bool {
        self.shared.mode.load(Ordering::SeqCst) == PASS
    }

    /// Tokens that were sent more than once.
    pub fn repeated(&self) -> Vec<String> {
        let mut tokens = self.shared.tokens.lock().unwrap().clone();
        tokens.sort();
        let mut repeated: Vec<String> = tokens.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0].clone()).collect();
        repeated.dedup();
        repeated
    }
}

impl Shared {
    fn forward(self: Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(&self.server) else { return };
        let is_insert = Arc::new(Mutex::new(false));
        let up = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let (shared, flag) = (Arc::clone(&self), Arc::clone(&is_insert));
        let mut refuse = client.try_clone().unwrap();
        std::thread::spawn(move || {
            copy(up.0, up.1, |bytes| {
                // A head comes in one piece from a client that writes it whole.
                let head = String::from_utf8_lossy(bytes).into_owned();
                if head.starts_with("POST ") {
                    if let Some(wanted) = shared.password.lock().unwrap().as_deref() {
                        let Some(with_own) = with_own_password(&head, wanted) else {
                            let text = "Code: 516. DB::Exception: Authentication failed";
                            let answer =
                                format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{text}", text.len());
                            let _ = refuse.write_all(answer.as_bytes());
                            return false;
                        };
                        let body = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
                        *bytes = [with_own.as_bytes(), &bytes[body..]].concat();
                    }
                    let line = head.lines().next().unwrap_or_default();
                    let token = line.split("insert_deduplication_token=").nth(1);
                    let token = token.map(|rest| rest.split(['&', ' ']).next().unwrap_or_default().to_string());
                    *flag.lock().unwrap() = token.is_some();
                    shared.tokens.lock().unwrap().extend(token);
                }
                true
            });
        });
        copy(server, client, |_| {
            if !*is_insert.lock().unwrap() {
                return true;
            }
            if self.mode.compare_exchange(CUT_ONE, PASS, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return false;
            }
            while self.mode.load(Ordering::SeqCst) == HOLD {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            true
        });
    }
}

/// The request's head with the server's own password, if it has the wanted one.
fn with_own_password(head: &str, wanted: &str) -> Option<String> {
    let (head, _) = head.split_once("\r\n\r\n")?;
    let lines = head.split("\r\n").map(|line| match line.to_ascii_lowercase().strip_prefix("x-clickhouse-key: ") {
        Some(_) if line.ends_with(&format!(": {wanted}")) => {
            Some(format!("X-ClickHouse-Key: {}", crate::support::service("PRESSLINE_TEST_CLICKHOUSE_PASSWORD")))
        }
        Some(_) => None,
        None => Some(line.to_string()),
    });
    Some(lines.collect::<Option<Vec<_>>>()?.join("\r\n"))
}

/// Copies until one side ends, or `goes_on` says no; then both ends are closed.
fn copy(mut from: TcpStream, mut to: TcpStream, mut goes_on: impl FnMut(&mut Vec<u8>) -> bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let mut bytes = buffer[..length].to_vec();
        if !goes_on(&mut bytes) || to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
