//! KEDA's external scaler: the same number for those who scale with KEDA.
//!
//! The messages are those of `externalscaler.proto`. Contract: a Model of which nothing was decided is
//! an error and not zero, so that KEDA leaves it alone.

use std::collections::BTreeMap;

use pilotage_shell::grpc::{Code, Grpc, GrpcLimits, Health, Replies, Requests, Status};

use super::board::{Board, METRIC};

const SERVICE: &str = "externalscaler.ExternalScaler";

/// Most bytes of a message: names and a trigger's metadata.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// What is asked about.
#[derive(Clone, PartialEq, prost::Message)]
struct ScaledObject {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct IsActive {
    #[prost(bool, tag = "1")]
    result: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Specs {
    #[prost(message, repeated, tag = "1")]
    specs: Vec<Spec>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Spec {
    #[prost(string, tag = "1")]
    name: String,
    /// For those who do not read the other one.
    #[prost(int64, tag = "2")]
    target: i64,
    #[prost(double, tag = "3")]
    target_float: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(message, optional, tag = "1")]
    object: Option<ScaledObject>,
    #[prost(string, tag = "2")]
    metric: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Values {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Value {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "2")]
    value: i64,
    #[prost(double, tag = "3")]
    value_float: f64,
}

/// The service that KEDA asks.
pub fn keda(board: &Board) -> Grpc {
    let (active, pushed, told) = (board.clone(), board.clone(), board.clone());
    let limits = GrpcLimits { message_bytes_max: MESSAGE_BYTES_MAX, ..GrpcLimits::default() };
    Grpc::new(limits)
        .unary("/externalscaler.ExternalScaler/IsActive", move |object: ScaledObject| {
            std::future::ready(wanted(&active, &object).map(|count| IsActive { result: count > 0 }))
        })
        .streaming(
            "/externalscaler.ExternalScaler/StreamIsActive",
            move |requests: Requests<ScaledObject>, replies: Replies<IsActive>| {
                push(pushed.clone(), requests, replies)
            },
        )
        .unary("/externalscaler.ExternalScaler/GetMetricSpec", |_: ScaledObject| {
            let spec = Spec { name: METRIC.to_owned(), target: 1, target_float: 1.0 };
            std::future::ready(Ok(Specs { specs: vec![spec] }))
        })
        .unary("/externalscaler.ExternalScaler/GetMetrics", move |asked: Asked| {
            std::future::ready(values(&told, asked))
        })
        .health(|service| match service {
            "" | SERVICE => Health::Serving,
            _ => Health::Unknown,
        })
}

/// Says whether there is to be any copy, now and whenever that changes.
async fn push(
    board: Board,
    requests: Requests<ScaledObject>,
    replies: Replies<IsActive>,
) -> Result<(), Status> {
    let object = requests.only().await?;
    model_of(&object)?;
    let mut changes = board.changes();
    let mut last = None;
    loop {
        // Who asks for a Model that is not known yet waits until it is.
        let now = wanted(&board, &object).ok().map(|count| count > 0);
        if let Some(result) = now
            && now != last
        {
            replies.send(&IsActive { result }).await;
            last = now;
        }
        if !changes.next().await {
            return Ok(());
        }
    }
}

fn values(board: &Board, asked: Asked) -> Result<Values, Status> {
    let none = || Status::new(Code::InvalidArgument, "the request names no ScaledObject");
    let count = wanted(board, &asked.object.ok_or_else(none)?)?;
    let value =
        Value { name: asked.metric, value: i64::from(count), value_float: f64::from(count) };
    Ok(Values { values: vec![value] })
}

fn wanted(board: &Board, object: &ScaledObject) -> Result<u32, Status> {
    let model = model_of(object)?;
    let unknown = || {
        let namespace = &object.namespace;
        let message = format!(
            "nothing is decided of a Model `{model}` in the namespace `{namespace}`: it has no `scaling`, or gateways said nothing yet"
        );
        Status::new(Code::NotFound, message)
    };
    board.wanted(&object.namespace, model).ok_or_else(unknown)
}

fn model_of(object: &ScaledObject) -> Result<&str, Status> {
    let model = object.metadata.get("model").map(String::as_str);
    let none = || Status::new(Code::InvalidArgument, "the trigger's metadata names no `model`");
    model.filter(|model| !model.is_empty()).ok_or_else(none)
}
