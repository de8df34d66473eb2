//! A lane: a sidecar with a recording origin behind it, through which one row goes at a time.
//!
//! Behind each row comes a request that is beyond doubt: on the same connection where that goes on, else on a new one. Its answer
//! must be its own, and the origin must have received it whole: a byte left over by the row would spoil it.

use super::http2::{self, Outcome};
use super::row::{Ending, Row, Sends, bytes};
use bulkhead_tests::{Kind, Message, Origin, Raw, Recorder, Recording, Script, World};

/// Target of the rows, which the origin answers as they say.
const TARGET: &str = "/v1/items";
/// Target of the request behind each row.
const BEHIND: &str = "/v1/behind";
/// Fields by which the sidecar tells what it knows: each once.
const OURS: [&str; 9] = [
    "forwarded",
    "traceparent",
    "x-bulkhead-decision-id",
    "x-bulkhead-roles",
    "x-bulkhead-tenant",
    "x-bulkhead-user",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

type Check = Result<(), String>;

pub(super) struct Lane {
    world: World,
    recorder: Recorder,
    token: String,
}

impl Lane {
    pub(super) fn start() -> Self {
        let recorder = Recorder::start();
        let endpoint = recorder.address().to_string();
        let world = World::with_arguments(Origin::start(), &["--workers", "1"], |folder| {
            std::fs::remove_dir_all(folder.join("tenants")).unwrap();
            let documents = std::fs::read_to_string(super::row::folder().join("documents.yaml")).unwrap();
            std::fs::write(folder.join("platform.yaml"), documents.replace("127.0.0.1:4789", &endpoint)).unwrap();
        });
        let token = world.issuer.token("acme_corp", &["anything"]);
        let lane = Self { world, recorder, token };
        behind(&mut Raw::connect(lane.world.address()), &lane.bytes("{get}")).expect("a request beyond doubt is served");
        lane.recorder.take();
        lane
    }

    /// Runs a row; what is not as it says.
    pub(super) fn run(&self, row: &Row) -> Check {
        let script =
            row.origin.as_ref().map(|origin| Script { target: TARGET.to_owned(), bytes: self.bytes(&origin.text), closes: origin.closes });
        self.recorder.play(script);
        let seen = match &row.sends {
            Sends::Bytes { text, then_ends } => self.http1(row, &self.bytes(text), *then_ends),
            Sends::Http2 { fields, body } => self.http2(row, fields, body),
        };
        // Also behind a row that failed, or the next would inherit what it left.
        let behind = if row.closes || seen.is_err() || matches!(row.sends, Sends::Http2 { .. }) {
            behind(&mut Raw::connect(self.world.address()), &self.bytes("{get}"))
        } else {
            Ok(())
        };
        let received = self.received(row, self.recorder.take());
        seen?;
        received.and(behind)
    }

    fn bytes(&self, text: &str) -> Vec<u8> {
        bytes(text, &self.token)
    }

    fn http1(&self, row: &Row, sent: &[u8], then_ends: bool) -> Check {
        let mut client = Raw::connect(self.world.address());
        client.send(sent);
        if then_ends {
            client.end();
        }
        let kind = if sent.starts_with(b"HEAD ") { Kind::AnswerToHead } else { Kind::Answer };
        for status in &row.answers {
            let answer = final_answer(&mut client, kind)?;
            if answer.status() != *status {
                return Err(format!("{status} expected, not {} {}", answer.line, String::from_utf8_lossy(&answer.body)));
            }
        }
        self.ending(row, &mut client, kind)?;
        if matches!(row.ending, Ending::Broken) {
            return Ok(());
        }
        if !row.closes {
            return behind(&mut client, &self.bytes("{get}")).map_err(|why| format!("on the same connection: {why}"));
        }
        match client.rest()? {
            rest if rest.is_empty() => Ok(()),
            rest => Err(format!("it should have closed, and said {}", rest.escape_ascii())),
        }
    }

    fn ending(&self, row: &Row, client: &mut Raw, kind: Kind) -> Check {
        match &row.ending {
            Ending::Answered => Ok(()),
            Ending::Refused { status, code, says, .. } => {
                let answer = final_answer(client, kind)?;
                is_refusal(&answer, *status, code, says.as_deref())?;
                let closes = answer.values("connection").any(|options| options.eq_ignore_ascii_case("close"));
                if closes == row.closes { Ok(()) } else { Err(format!("`Connection: close` and what follows differ: {:?}", answer.fields)) }
            }
            Ending::Received(text) => {
                for expected in Message::read_all(&self.bytes(text), kind).map_err(|why| format!("the row itself: {why}"))? {
                    let mut answer = client.answer(kind)?.ok_or("it closed without an answer")?;
                    answer.take("date");
                    same(&answer.sorted(), &expected.sorted())?;
                }
                Ok(())
            }
            Ending::Dropped => match client.answer(kind)? {
                None => Ok(()),
                Some(answer) => Err(format!("no answer expected, not {}", answer.line)),
            },
            Ending::Broken => {
                let (received, was_reset) = client.until_gone()?;
                match Message::read(&received, kind, true) {
                    Ok(Some((whole, _))) if !was_reset => Err(format!("looks whole: {}", whole.line)),
                    _ => Ok(()),
                }
            }
            Ending::Reset(_) => Err("only HTTP/2 has resets".to_owned()),
        }
    }

    fn http2(&self, row: &Row, fields: &[(String, String)], body: &str) -> Check {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (self.bytes(name), self.bytes(value))).collect();
        let outcome = http2::request(self.world.address(), &fields, &self.bytes(body))?;
        match (&row.ending, outcome) {
            (Ending::Answered, Outcome::Answered(status, _)) if row.answers == [status] => Ok(()),
            (Ending::Reset(error), Outcome::Reset(reset)) if *error == reset => Ok(()),
            (Ending::Refused { status, code, says, .. }, Outcome::Answered(answered, body)) => {
                if answered != *status {
                    return Err(format!("{status} expected, not {answered}"));
                }
                is_problem(&body, code, says.as_deref())
            }
            (_, outcome) => Err(format!("{outcome:?}")),
        }
    }

    /// What the origin received: the row's requests, the one behind it, and nothing else.
    fn received(&self, row: &Row, recording: Recording) -> Check {
        let Recording { mut requests, rest } = recording;
        let last = requests.pop().map(|bytes| Message::read_all(&bytes, Kind::Request)).transpose()?;
        if last.is_none_or(|all| all[0].target() != BEHIND) {
            return Err("the origin did not receive the request behind it last".to_owned());
        }
        let begun = matches!(row.ending, Ending::Refused { begun: true, .. } | Ending::Dropped | Ending::Reset(_)) || row.origin.is_some();
        if let (Some(rest), false) = (rest.first(), begun) {
            return Err(format!("the origin received also {}", rest.escape_ascii()));
        }
        let Some(expected) = &row.forwarded else {
            let allowed = usize::from(row.origin.is_some());
            return match requests.get(allowed) {
                Some(request) => Err(format!("the origin received {}", request.escape_ascii())),
                None => Ok(()),
            };
        };
        let expected = Message::read_all(&self.bytes(expected), Kind::Request).map_err(|why| format!("the row itself: {why}"))?;
        if requests.len() != expected.len() {
            return Err(format!("the origin received {} requests: {}", requests.len(), requests.concat().escape_ascii()));
        }
        for (received, mut expected) in requests.iter().zip(expected) {
            let mut received = Message::read_all(received, Kind::Request)?.remove(0);
            let count = expected.fields.len();
            expected.fields.retain(|field| field != "{ours}");
            assert_eq!(count, expected.fields.len() + 1, "{}: {{ours}} stands once in a request", row.name);
            take_ours(&mut received)?;
            same(&received.sorted(), &expected.sorted())?;
        }
        Ok(())
    }
}

/// One request beyond doubt, and its own answer.
fn behind(client: &mut Raw, get: &[u8]) -> Check {
    client.send(&[&String::from_utf8_lossy(get).replace(TARGET, BEHIND).into_bytes()[..], b"\r\n"].concat());
    let answer = final_answer(client, Kind::Answer)?;
    if answer.status() == 200 && answer.body == b"ok" {
        return Ok(());
    }
    Err(format!("the request behind it got {} {}", answer.line, String::from_utf8_lossy(&answer.body)))
}

/// The next answer that is no interim one.
fn final_answer(client: &mut Raw, kind: Kind) -> Result<Message, String> {
    loop {
        let answer = client.answer(kind)?.ok_or("it closed without an answer")?;
        if !(100..200).contains(&answer.status()) || answer.status() == 101 {
            return Ok(answer);
        }
    }
}

fn is_refusal(answer: &Message, status: u16, code: &str, says: Option<&str>) -> Check {
    if answer.status() != status {
        return Err(format!("{status} expected, not {} {}", answer.line, String::from_utf8_lossy(&answer.body)));
    }
    if answer.values("content-type").next() != Some("application/problem+json") {
        return Err(format!("no problem: {:?}", answer.fields));
    }
    is_problem(&answer.body, code, says)
}

fn is_problem(body: &[u8], code: &str, says: Option<&str>) -> Check {
    let text = String::from_utf8_lossy(body);
    let problem: serde_json::Value = serde_json::from_slice(body).map_err(|why| format!("{why}: {text}"))?;
    let detail = problem["detail"].as_str().unwrap_or_default();
    if problem["code"] == code && says.is_none_or(|says| detail.contains(says)) { Ok(()) } else { Err(format!("it says {text}")) }
}

/// Takes out the fields of ours, each of which must be there once.
fn take_ours(request: &mut Message) -> Check {
    let hosts: Vec<String> = request.values("host").map(ToOwned::to_owned).collect();
    for name in OURS {
        let values = request.take(name);
        let wanted = match name {
            "x-bulkhead-tenant" => Some("acme_corp"),
            "x-bulkhead-user" => Some("user-1"),
            "x-bulkhead-roles" => Some("anything"),
            "x-forwarded-for" => Some("127.0.0.1"),
            "x-forwarded-proto" => Some("http"),
            "x-forwarded-host" => hosts.first().map(String::as_str),
            _ => None,
        };
        match (&values[..], wanted) {
            ([one], None) if !one.is_empty() => {}
            ([one], Some(wanted)) if one == wanted => {}
            _ => return Err(format!("{name}: {values:?}")),
        }
    }
    Ok(())
}

fn same(received: &Message, expected: &Message) -> Check {
    if received == expected { Ok(()) } else { Err(format!("expected {expected:?}\n    received {received:?}")) }
}
