//! One call, from its header to its answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use gnt_bdev::{ErrorKind, Told};
use gnt_cmdlib::node::NodeError;
use gnt_process::DryRun;
use gnt_process::System;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::info;

use super::Shared;
use super::disks;
use super::dispatch::{dispatch, told};
use super::operations::{OneCall, Operations};
use crate::wire::{
    BadCall, Call, DRY_RUN_HEADER, Dialect, HEADER, MAX_DATA, MAX_JSON, OPERATION_HEADER, PROTOCOL,
    Procedure, Reply, Version, ganeti_message, ganeti_payload, read_body,
};

/// Bodies up to this size, in bytes, find room always: what ends an operation must not wait for what the operation does.
const SMALL: usize = 64 << 10;
/// Longest id of an operation.
const MAX_OPERATION: usize = 64;

type Answer = Response<Full<Bytes>>;

/// Answers a request. What is no call at all gets a status of HTTP, and a call that failed an answer that says so.
pub(super) async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let begun = Instant::now();
    let mut story = Story::default();
    let answered = match Envelope::read(&request) {
        Ok(envelope) => take(&shared, envelope, request, &mut story).await,
        Err(status) => Err(status),
    };
    let answer = answered.unwrap_or_else(|status| {
        story.outcome = status.to_string();
        plain(status)
    });
    let milliseconds = begun.elapsed().as_millis();
    let Story {
        procedure,
        disk,
        instance,
        operation,
        outcome,
    } = story;
    info!(
        procedure,
        disk, instance, operation, milliseconds, outcome, "call"
    );
    Ok(answer)
}

/// What the log tells of a call: never its arguments.
#[derive(Debug, Default)]
struct Story {
    procedure: &'static str,
    disk: String,
    instance: String,
    operation: String,
    outcome: String,
}

/// What the head of a request tells.
struct Envelope {
    procedure: Procedure,
    dialect: Dialect,
    /// Whether the caller speaks our version of the protocol, if it speaks ours at all.
    understood: bool,
    operation: Option<String>,
    dry_run: bool,
    length: usize,
}

impl Envelope {
    fn read(request: &Request<Incoming>) -> Result<Self, StatusCode> {
        if request.method() != Method::POST {
            return Err(StatusCode::METHOD_NOT_ALLOWED);
        }
        let name = request.uri().path().trim_start_matches('/');
        let procedure: Procedure = name.parse().map_err(|_| StatusCode::NOT_FOUND)?;
        let headers = request.headers();
        let dialect = match headers.contains_key(HEADER) {
            true => Dialect::Ours,
            false => Dialect::Ganeti,
        };
        if procedure.is_ours() && dialect != Dialect::Ours {
            return Err(StatusCode::NOT_FOUND);
        }
        // So that room for the body is had before it is read.
        let length = header(headers, CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok());
        let length: usize = length.ok_or(StatusCode::LENGTH_REQUIRED)?;
        if length > MAX_JSON + MAX_DATA {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let operation = header(headers, OPERATION_HEADER).map(str::to_owned);
        if !operation.as_deref().is_none_or(is_operation) {
            return Err(StatusCode::BAD_REQUEST);
        }
        let protocol = header(headers, HEADER).map(str::parse::<u32>);
        Ok(Self {
            procedure,
            dialect,
            understood: protocol.is_none_or(|protocol| protocol == Ok(PROTOCOL)),
            operation,
            dry_run: headers.contains_key(DRY_RUN_HEADER),
            length,
        })
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn is_operation(id: &str) -> bool {
    (1..=MAX_OPERATION).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Reads the call and does it.
async fn take(
    shared: &Arc<Shared>,
    envelope: Envelope,
    request: Request<Incoming>,
    story: &mut Story,
) -> Result<Answer, StatusCode> {
    story.procedure = envelope.procedure.name();
    story.operation = envelope.operation.clone().unwrap_or_default();
    let one = shared.operations.came(envelope.operation.as_deref());
    let room = match envelope.length {
        ..=SMALL => None,
        length => {
            let kib = (length.min(shared.limits.body_bytes) >> 10)
                .try_into()
                .unwrap_or(u32::MAX);
            let room = shared.bodies.acquire_many(kib).await;
            Some(room.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?)
        }
    };
    let body = Limited::new(request.into_body(), envelope.length).collect();
    let body = timeout(shared.limits.body, body)
        .await
        .map_err(|_| StatusCode::REQUEST_TIMEOUT)?;
    let body = body.map_err(|_| StatusCode::BAD_REQUEST)?.to_bytes();
    let call = read_call(&envelope, &body);
    drop(body);
    let answered = match call {
        Ok(call) => {
            if let Some(first) = call.disks().first() {
                let more = call.disks().len() - 1;
                story.disk = first.disk.to_string();
                if more > 0 {
                    story.disk += &format!(" and {more} more");
                }
                story.instance = first.instance.clone();
            }
            perform(shared, &envelope, call, one).await
        }
        Err(error) => Err(Told::new(&error, ErrorKind::Other, None)),
    };
    drop(room);
    story.outcome = match &answered {
        Ok(_) => "ok".to_owned(),
        Err(told) => format!("failed: {}", ganeti_message(told)),
    };
    Ok(encode(envelope.dialect, answered))
}

fn read_call(envelope: &Envelope, body: &[u8]) -> Result<Call, BadCall> {
    if !envelope.understood {
        return Err(BadCall::Protocol);
    }
    let (arguments, data) = read_body(body)?;
    let data = match envelope.dialect {
        Dialect::Ours => data,
        Dialect::Ganeti => data.trim_ascii(),
    };
    Call::decode(envelope.procedure, arguments, envelope.dialect, data)
}

/// What a call answers, and what a dry run noted.
struct Done {
    reply: Reply,
    noted: Option<Vec<String>>,
}

/// Does a call when its disks are free.
async fn perform(shared: &Arc<Shared>, envelope: &Envelope, call: Call, one: OneCall) -> Result<Done, Told> {
    let call = match administer(shared, call, envelope.dry_run).await? {
        Ok(reply) => return Ok(Done { reply, noted: None }),
        Err(call) => call,
    };
    let operation = envelope.operation.as_deref();
    let noted = envelope.dry_run.then(|| Arc::new(DryRun::new(System)));
    let node = shared.node(operation, noted.as_ref());
    // Until here a caller that goes away takes its call with it.
    let turn = shared.disks.turn(disks::keys(&call)).await;
    let place = Arc::clone(&shared.calls).acquire_owned().await;
    if !one.begin().await {
        return Err(Told {
            message: "the operation was ended while the call waited".to_owned(),
            kind: ErrorKind::Other,
            hint: None,
            snapshots: None,
            cause: None,
        });
    }
    let caller = Caller {
        operations: Arc::clone(&shared.operations),
        call: envelope
            .operation
            .clone()
            .map(|operation| (operation, one.number())),
    };
    let dialect = envelope.dialect;
    let work = tokio::spawn(async move {
        let reply = dispatch(&node, call, dialect).await;
        drop((turn, place, one));
        reply
    });
    let reply = work.await;
    caller.got_it();
    let reply = reply.map_err(|source| {
        let node = shared.current().bundle.config.name;
        told(&NodeError::Broken { node, source })
    })?;
    Ok(Done {
        reply: reply.map_err(|error| told(&error))?,
        noted: noted.map(|noted| noted.changes()),
    })
}

/// Does what concerns the server itself, or gives the call back.
async fn administer(shared: &Arc<Shared>, call: Call, dry_run: bool) -> Result<Result<Reply, Call>, Told> {
    match call {
        Call::Version => Ok(Ok(Reply::Version(Version {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: shared.current().bundle.config.name,
        }))),
        Call::GntEndOperation { .. } | Call::GntConfigure { .. } if dry_run => Ok(Ok(Reply::Nothing)),
        Call::GntEndOperation { operation } => {
            let ending = shared.operations.end(&operation);
            let ended = tokio::task::spawn_blocking(move || ending.finish()).await;
            let ended = ended.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            ended.map_err(|error| Told::new(&error, ErrorKind::Other, None))?;
            Ok(Ok(Reply::Nothing))
        }
        Call::GntConfigure {
            name,
            address,
            settings,
            exclusive_storage,
        } => {
            let configured = shared.configure(|config| {
                config.name = name;
                config.address = address;
                config.settings = *settings;
                config.exclusive_storage = exclusive_storage;
            });
            configured.map_err(|error| Told::new(&error, ErrorKind::Other, error.hint()))?;
            Ok(Ok(Reply::Nothing))
        }
        other => Ok(Err(other)),
    }
}

/// Who waits for a call. Dropped before the call is over, it is gone, and what the operation runs here is ended.
struct Caller {
    operations: Arc<Operations>,
    /// The operation, and which of its calls.
    call: Option<(String, u64)>,
}

impl Caller {
    fn got_it(mut self) {
        self.call = None;
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let Some((operation, number)) = self.call.take() else {
            return;
        };
        info!(operation, "the caller is gone");
        let Some(ending) = self.operations.end_call(&operation, number) else {
            return;
        };
        let end = move || {
            if let Err(error) = ending.finish() {
                tracing::warn!(operation, %error, "cannot end what the operation runs");
            }
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(end);
        }
    }
}

fn encode(dialect: Dialect, answered: Result<Done, Told>) -> Answer {
    let (json, data) = match (dialect, answered) {
        (Dialect::Ganeti, Ok(done)) => (json!([true, ganeti_payload(&done.reply)]), Vec::new()),
        (Dialect::Ganeti, Err(told)) => (json!([false, ganeti_message(&told)]), Vec::new()),
        (Dialect::Ours, Ok(Done { reply, noted })) => match reply.payload() {
            Ok((payload, data)) => (
                match noted {
                    None => json!([true, payload]),
                    Some(noted) => json!([true, payload, noted]),
                },
                data,
            ),
            // As a path that is not UTF-8.
            Err(error) => (refusal(&Told::new(&error, ErrorKind::Other, None)), Vec::new()),
        },
        (Dialect::Ours, Err(told)) => (refusal(&told), Vec::new()),
    };
    let mut body = json.to_string().into_bytes();
    body.push(b'\n');
    body.extend(data);
    Response::new(Full::new(body.into()))
}

fn refusal(told: &Told) -> Value {
    json!([false, told])
}

fn plain(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::new(format!("{status}\n").into()));
    *answer.status_mut() = status;
    answer
}
