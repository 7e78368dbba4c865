//! DNS messages (RFC 1035, RFC 6891): as much as a server needs that answers from a list of names and hands on the rest.
//!
//! Everything that comes in is hostile: a query is parsed to its end or refused, and nothing is allocated for its sake
//! but its name.

use std::net::IpAddr;

/// What a message without EDNS may have over UDP.
pub const UDP_BYTES_MIN: usize = 512;
/// The most that is sent over UDP, and the most that a query may have.
pub const UDP_BYTES_MAX: usize = 4096;
/// What the length in front of a message over TCP allows.
pub const MESSAGE_BYTES_MAX: usize = 65_535;
/// How long an answer of ours may be kept, in seconds; as long as Docker's.
pub const TTL: u32 = 600;

pub const A: u16 = 1;
pub const PTR: u16 = 12;
pub const AAAA: u16 = 28;
const OPT: u16 = 41;
pub const ANY: u16 = 255;
/// The class of the Internet.
pub const IN: u16 = 1;

const HEADER: usize = 12;
const NAME_BYTES_MAX: usize = 255;
/// A pointer to the question's name.
const TO_QUESTION: [u8; 2] = [0xc0, HEADER as u8];
const QR: u8 = 0x80;
const OPCODE: u8 = 0x78;
const TC: u8 = 0x02;
const RD: u8 = 0x01;
const RA: u8 = 0x80;
const CD: u8 = 0x10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rcode {
    NoError = 0,
    FormatError = 1,
    ServerFailure = 2,
    NotImplemented = 4,
    Refused = 5,
}

/// One question, with what its answer has to heed.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The whole message.
    pub bytes: &'a [u8],
    /// Where the question ends; it begins behind the header.
    question_end: usize,
    pub kind: u16,
    pub class: u16,
    /// What the client takes over UDP, if it speaks EDNS.
    edns: Option<u16>,
}

/// Why a message is no query that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Too short to say whom to answer, or an answer itself.
    Ignore,
    /// To be told so.
    Refuse(Rcode),
}

impl<'a> Query<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let refused = Malformed::Refuse(Rcode::FormatError);
        if bytes.len() < HEADER || bytes[2] & QR != 0 {
            return Err(Malformed::Ignore);
        }
        if bytes[2] & OPCODE != 0 {
            return Err(Malformed::Refuse(Rcode::NotImplemented));
        }
        let count = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        if count(4) != 1 {
            return Err(refused);
        }
        let mut at = question_name_end(bytes).ok_or(refused)?;
        let kind = number(bytes, at).ok_or(refused)?;
        let class = number(bytes, at + 2).ok_or(refused)?;
        at += 4;
        let question_end = at;
        let records = u32::from(count(6)) + u32::from(count(8)) + u32::from(count(10));
        let mut edns = None;
        // Each record takes eleven bytes at least, so that the message's length bounds the loop.
        for _ in 0..records {
            let record = Record::parse(bytes, at).ok_or(refused)?;
            if record.kind == OPT {
                edns = Some(record.class);
            }
            at = record.end;
        }
        Ok(Self { bytes, question_end, kind, class, edns })
    }

    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    /// The name in lower case, its labels joined by dots, without the last one; `None` when it has bytes that no name in
    /// a list of ours can have.
    pub fn name(&self) -> Option<Vec<u8>> {
        let mut name = Vec::with_capacity(self.question_end - HEADER);
        let mut at = HEADER;
        loop {
            let length = usize::from(*self.bytes.get(at)?);
            if length == 0 {
                return Some(name);
            }
            if !name.is_empty() {
                name.push(b'.');
            }
            let label = self.bytes.get(at + 1..at + 1 + length)?;
            if label.iter().any(|byte| *byte <= b' ' || matches!(byte, b'.' | 0x7f)) {
                return None;
            }
            name.extend(label.iter().map(u8::to_ascii_lowercase));
            at += 1 + length;
        }
    }

    /// How many bytes an answer over UDP may have.
    pub fn udp_bytes_max(&self) -> usize {
        self.edns.map_or(UDP_BYTES_MIN, |bytes| usize::from(bytes).clamp(UDP_BYTES_MIN, UDP_BYTES_MAX))
    }

    /// Whether `response` answers this question, with the id that is its first two bytes.
    pub fn is_answered_by(&self, response: &[u8]) -> bool {
        response.len() >= HEADER
            && response[..2] == self.bytes[..2]
            && response[2] & QR != 0
            && match u16::from_be_bytes([response[4], response[5]]) {
                // A server that has not understood the question need not repeat it.
                0 => response[3] & 0x0f != 0,
                1 => response.get(HEADER..self.question_end).is_some_and(|question| {
                    question.eq_ignore_ascii_case(&self.bytes[HEADER..self.question_end])
                }),
                _ => false,
            }
    }
}

/// Whether another server may know better than what this response says.
pub fn is_failure(response: &[u8]) -> bool {
    response.get(3).is_some_and(|flags| {
        let code = flags & 0x0f;
        code == Rcode::ServerFailure as u8 || code == Rcode::Refused as u8
    })
}

/// Puts another id in front of a message.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// A response cut down to its header and question, for a client that can't take it over UDP and so comes again by TCP.
pub fn truncated(query: &Query<'_>, response: &[u8]) -> Vec<u8> {
    let mut short = query.bytes[..query.question_end].to_vec();
    if let Some(flags) = response.get(2..4) {
        short[2..4].copy_from_slice(flags);
    }
    short[2] |= TC;
    set_counts(&mut short, 0, false);
    short
}

/// What is told to the sender of a message that can't be parsed: its header only.
pub fn refusal(message: &[u8], code: Rcode) -> Vec<u8> {
    let mut answer = vec![0; HEADER];
    if let Some(head) = message.get(..4) {
        answer[..2].copy_from_slice(&head[..2]);
        answer[2] = QR | head[2] & (OPCODE | RD);
        answer[3] = RA | code as u8;
    }
    answer
}

/// An answer that is being put together.
pub struct Answer {
    bytes: Vec<u8>,
    bytes_max: usize,
    records: u16,
    truncated: bool,
    edns: bool,
}

impl Answer {
    /// An answer to `query` of at most `bytes_max` bytes.
    pub fn new(query: &Query<'_>, code: Rcode, bytes_max: usize) -> Self {
        let mut bytes = query.bytes[..query.question_end].to_vec();
        bytes[2] = QR | bytes[2] & (OPCODE | RD);
        bytes[3] = RA | bytes[3] & CD | code as u8;
        Self { bytes, bytes_max, records: 0, truncated: false, edns: query.edns.is_some() }
    }

    /// Says that the question's name has this address.
    pub fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.record(A, &address.octets()),
            IpAddr::V6(address) => self.record(AAAA, &address.octets()),
        }
    }

    /// Says that the question's name stands for this one; a name that is none is left out.
    pub fn pointer(&mut self, name: &str) {
        let mut wire = Vec::with_capacity(name.len() + 2);
        for label in name.split('.') {
            let Some(length) = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))
            else {
                return;
            };
            wire.push(length);
            wire.extend(label.as_bytes());
        }
        wire.push(0);
        if wire.len() <= NAME_BYTES_MAX {
            self.record(PTR, &wire);
        }
    }

    fn record(&mut self, kind: u16, data: &[u8]) {
        let needed = 12 + data.len() + if self.edns { OPT_RECORD.len() } else { 0 };
        if self.truncated || self.bytes.len() + needed > self.bytes_max || self.records == u16::MAX {
            self.truncated = true;
            return;
        }
        self.bytes.extend(TO_QUESTION);
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(IN.to_be_bytes());
        self.bytes.extend(TTL.to_be_bytes());
        // A name has 255 bytes at most, an address fewer.
        self.bytes.extend((data.len() as u16).to_be_bytes());
        self.bytes.extend(data);
        self.records += 1;
    }

    pub fn finish(mut self) -> Vec<u8> {
        if self.truncated {
            self.bytes[2] |= TC;
        }
        set_counts(&mut self.bytes, self.records, self.edns);
        if self.edns {
            self.bytes.extend(OPT_RECORD);
        }
        self.bytes
    }
}

/// The record by which a server says that it speaks EDNS: root, OPT, what it takes over UDP, no flags, no data.
const OPT_RECORD: [u8; 11] =
    [0, 0, OPT as u8, (UDP_BYTES_MAX >> 8) as u8, UDP_BYTES_MAX as u8, 0, 0, 0, 0, 0, 0];

/// One question, so many answers, nothing else but perhaps OPT.
fn set_counts(message: &mut [u8], answers: u16, edns: bool) {
    message[4..6].copy_from_slice(&1u16.to_be_bytes());
    message[6..8].copy_from_slice(&answers.to_be_bytes());
    message[8..10].fill(0);
    message[10..12].copy_from_slice(&u16::from(edns).to_be_bytes());
}

/// Where the question's name ends. It is the first of the message: there is nothing that it could point to.
fn question_name_end(bytes: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length == 0 {
            return (at - HEADER <= NAME_BYTES_MAX).then_some(at);
        }
        if length > 63 || at - HEADER > NAME_BYTES_MAX {
            return None;
        }
    }
}

/// A record behind the question, of which only little is of interest.
struct Record {
    kind: u16,
    class: u16,
    end: usize,
}

impl Record {
    fn parse(bytes: &[u8], at: usize) -> Option<Self> {
        let at = skip_name(bytes, at)?;
        let (kind, class) = (number(bytes, at)?, number(bytes, at + 2)?);
        let end = at + 10 + usize::from(number(bytes, at + 8)?);
        (end <= bytes.len()).then_some(Self { kind, class, end })
    }
}

/// Steps over a name, which a pointer may end; where it points to doesn't matter.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
