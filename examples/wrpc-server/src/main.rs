//! A greeter that is no component. In: calls of `example:greet/greeter@0.1.0` over wRPC, from workloads of a fleet or from
//! anybody else. Out: greetings. A platform lends it as `wrpc: { prefix, interfaces }`; it runs wherever it likes, and
//! several of it share the calls.

#![forbid(unsafe_code)]

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use clap::Parser;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use heddle_wrpc::codec::{Cursor, DecodeLimits, put_bytes, put_result, put_string};
use heddle_wrpc::{Connection, Fault, Incoming, Limits, Options, Service, Serving};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

const INTERFACE: &str = "example:greet/greeter@0.1.0";
const FUNCTIONS: [&str; 3] = ["greet", "try-greet", "echo"];

/// Greets over wRPC
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The URL of NATS
    #[arg(
        long,
        value_name = "URL",
        default_value = "nats://127.0.0.1:4222",
        env = "HEDDLE_NATS"
    )]
    nats: String,
    /// What the subjects begin with
    #[arg(long, value_name = "PREFIX", default_value = "acme.greet")]
    prefix: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let mut term = signal(SignalKind::terminate()).context("failed to take signals")?;
    let client = async_nats::ConnectOptions::new()
        .name("wrpc-greeter")
        .connect(&args.nats)
        .await
        .context("failed to connect to NATS; name it with --nats")?;
    let connection = Connection::new(client, Options::default()).await?;
    let mut served = Vec::new();
    for function in FUNCTIONS {
        served.push(serve(&connection, &args.prefix, function).await?);
    }
    eprintln!("serving {INTERFACE} under {}", args.prefix);
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    // Calls that have begun are answered.
    futures::future::join_all(served.into_iter().map(Serving::drain)).await;
    Ok(())
}

async fn serve(connection: &Connection, prefix: &str, function: &str) -> Result<Serving> {
    let service = Service {
        prefix: prefix.to_owned(),
        instance: INTERFACE.to_owned(),
        function: function.to_owned(),
        queue_group: Some("wrpc-greeter".to_owned()),
    };
    let handler = |incoming: Incoming| -> BoxFuture<'static, Result<Bytes, Fault>> {
        async move { answer(&incoming.function, incoming.params) }.boxed()
    };
    Ok(connection.serve(service, Arc::new(handler), Limits::default()).await?)
}

fn answer(function: &str, params: Bytes) -> Result<Bytes, Fault> {
    let unread = |error: heddle_wrpc::codec::CodecError| Fault::Protocol(error.to_string());
    let unwritten = |error: heddle_wrpc::codec::CodecError| Fault::Failed(error.to_string());
    let mut cursor = Cursor::new(params, DecodeLimits::default());
    let mut results = BytesMut::new();
    if function == "echo" {
        let data = cursor.bytes().map_err(unread)?;
        put_bytes(&mut results, &data).map_err(unwritten)?;
    } else {
        let name = cursor.string().map_err(unread)?;
        let greeting = format!("Hello from a server, {name}!");
        let text = match (function, name.is_empty()) {
            ("greet", _) => greeting.as_str(),
            (_, is_empty) => {
                put_result(&mut results, !is_empty);
                if is_empty { "nobody to greet" } else { &greeting }
            }
        };
        put_string(&mut results, text).map_err(unwritten)?;
    }
    cursor.finish().map_err(unread)?;
    Ok(results.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_as_the_interface_says_and_nonsense_is_a_fault() {
        let mut ada = BytesMut::new();
        put_string(&mut ada, "Ada").unwrap();
        let mut cursor = Cursor::new(answer("greet", ada.clone().freeze()).unwrap(), DecodeLimits::default());
        assert_eq!(cursor.string().unwrap(), "Hello from a server, Ada!");
        let mut cursor = Cursor::new(
            answer("try-greet", Bytes::from_static(&[0])).unwrap(),
            DecodeLimits::default(),
        );
        assert!(!cursor.result().unwrap());
        assert_eq!(cursor.string().unwrap(), "nobody to greet");
        assert!(matches!(
            answer("echo", Bytes::from_static(&[9, 1])),
            Err(Fault::Protocol(_))
        ));
        ada.extend_from_slice(b"more");
        assert!(matches!(answer("greet", ada.freeze()), Err(Fault::Protocol(_))));
    }
}
