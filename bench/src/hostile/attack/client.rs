//! A client with a plain socket: it costs little, and says exactly what it is told to.
//!
//! In: the bytes of a request. Out: the head of the answer; the rest of it is thrown away.

use anyhow::{Context as _, Result, bail, ensure};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer may take before the benchmark fails.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest head, and the longest answer that is read whole.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Bytes that are sent at a time. A kernel that does not interrupt itself keeps the processor until all of a write is
/// copied, whatever the priority of the thread; from another machine they would come in pieces as well.
const PIECE_BYTES: usize = 16 << 10;

/// A connection.
pub(in crate::hostile) struct Client(TcpStream);

/// What is known of an answer.
#[derive(Debug)]
pub(in crate::hostile) struct Head {
    pub(in crate::hostile) status: u16,
    /// Why the host answered in the guest's place.
    pub(in crate::hostile) code: Option<String>,
    length: Option<usize>,
    /// Bytes of the body that came with the head.
    body: Vec<u8>,
}

impl Head {
    /// The answer of a host that does not listen to the end.
    pub(super) fn refused() -> Self {
        Self {
            status: 431,
            code: None,
            length: None,
            body: Vec::new(),
        }
    }

    /// `status`, or `status code` where the host answered.
    pub(super) fn line(&self) -> String {
        match &self.code {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }

    fn parse(head: &[u8], body: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(head).context("the answer has no readable head")?;
        let status = text.split(' ').nth(1).context("the answer has no status")?.parse()?;
        let field = |name: &str| {
            let mut fields = text.lines().filter_map(|line| line.split_once(':'));
            let (_, value) = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
            Some(value.trim())
        };
        Ok(Self {
            status,
            code: field(heddle_agent::http::ERROR_HEADER.as_str()).map(str::to_owned),
            length: field("content-length").map(str::parse).transpose()?,
            body: body.to_vec(),
        })
    }

    fn is_whole(&self) -> bool {
        match self.length {
            Some(length) => self.body.len() >= length,
            None => self.body.ends_with(b"0\r\n\r\n"),
        }
    }
}

impl Client {
    pub(in crate::hostile) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).context("failed to connect to the agent")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self(stream))
    }

    /// Sends a request, and reads its whole answer, which must be a small one.
    pub(in crate::hostile) fn ask(&mut self, request: &[u8]) -> Result<Head> {
        let mut head = self.begin(request)?;
        let mut buffer = [0; 4 << 10];
        while !head.is_whole() {
            ensure!(head.body.len() < ANSWER_BYTES_MAX, "the answer has no end");
            let read = self.0.read(&mut buffer).context("failed to read an answer")?;
            ensure!(read > 0, "the agent closed the connection");
            head.body.extend_from_slice(&buffer[..read]);
        }
        Ok(head)
    }

    /// Sends a request, and reads the head of its answer.
    pub(super) fn begin(&mut self, request: &[u8]) -> Result<Head> {
        for piece in request.chunks(PIECE_BYTES) {
            self.0.write_all(piece).context("failed to send a request")?;
        }
        self.head()
    }

    /// Sends a head, and then a byte at a time until there is an answer.
    pub(super) fn drip(&mut self, head: &[u8], every: Duration) -> Result<Head> {
        self.0.write_all(head).context("failed to send a request")?;
        self.0.set_read_timeout(Some(every))?;
        let began = Instant::now();
        while self.0.peek(&mut [0]).is_err_and(|error| is_timeout(error.kind())) {
            ensure!(began.elapsed() < ANSWER_TIMEOUT, "there was no answer");
            // If it was closed meanwhile, the next look says so.
            let _ = self.0.write_all(b"x");
        }
        self.head()
    }

    /// Reads until the agent closes the connection.
    pub(super) fn drain(&mut self) {
        let mut buffer = [0; 16 << 10];
        while self.0.read(&mut buffer).is_ok_and(|read| read > 0) {}
    }

    fn head(&mut self) -> Result<Head> {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4 << 10]);
        while bytes.len() < ANSWER_BYTES_MAX {
            let read = self.0.read(&mut buffer).context("failed to read an answer")?;
            ensure!(read > 0, "the agent closed the connection");
            bytes.extend_from_slice(&buffer[..read]);
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let (head, body) = bytes.split_at(end + 4);
                return Head::parse(head, body);
            }
        }
        bail!("the head of the answer has no end")
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
