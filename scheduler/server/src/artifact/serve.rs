//! Serves artifacts to agents by digest, in chunks, on a NATS connection of its own (D13): a hundred agents that fetch
//! at once delay no heartbeat.

use super::ArtifactPool;
use crate::compile::CompilePool;
use bytes::Bytes;
use futures::StreamExt as _;
use heddle_protocol::api::artifact::{ArtifactChunk, ArtifactGet, CompiledGet};
use heddle_protocol::api::{self, ApiError, ErrorCode, Response};
use heddle_protocol::id::Realm;
use heddle_protocol::{envelope, subject};
use serde::{Deserialize, Serialize};

/// Requests answered at the same time: bounds the memory that answers take.
const IN_FLIGHT_MAX: usize = 64;
/// Schedulers of one realm share the requests.
const QUEUE_GROUP: &str = "artifacts";

/// Answers agents' requests for as long as the connection lives.
pub async fn serve_artifacts(
    client: async_nats::Client,
    realm: Realm,
    pool: ArtifactPool,
    compile: CompilePool,
) -> Result<(), async_nats::SubscribeError> {
    let requests = client
        .queue_subscribe(subject::all_artifact_requests(&realm), QUEUE_GROUP.to_owned())
        .await?;
    requests
        .for_each_concurrent(IN_FLIGHT_MAX, |message| {
            let (client, pool, compile) = (client.clone(), pool.clone(), compile.clone());
            async move {
                let Some(reply) = message.reply.clone() else { return };
                let answer = answer(&pool, &compile, &message.payload).await;
                if let Err(e) = client.publish(reply, answer.into()).await {
                    tracing::warn!(error = %e, "an artifact chunk could not be sent; the agent asks again");
                }
            }
        })
        .await;
    Ok(())
}

/// What an agent asks: for bytes by their digest, be they of artifacts or of native code, or for the code of an artifact.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Question {
    Bytes(ArtifactGet),
    Code(CompiledGet),
}

async fn answer(pool: &ArtifactPool, compile: &CompilePool, payload: &[u8]) -> Vec<u8> {
    let result = match envelope::read::<Question>("artifact request", payload) {
        Ok(Question::Bytes(get)) => chunk(pool, compile, &get).await,
        Ok(Question::Code(get)) => compile
            .answer(&get)
            .await
            .map(|(answer, sealed)| (to_json(&answer), sealed)),
        Err(e) => Err(ApiError::new(ErrorCode::BadRequest, e.to_string(), "update the agent")),
    };
    let (ok, error, part) = match result {
        Ok((ok, part)) => (Some(ok), None, part),
        Err(error) => (None, Some(error), Bytes::new()),
    };
    let response = Response {
        v: api::VERSION,
        ok,
        error,
    };
    api::join("artifact answer", &response, &part).unwrap_or_default()
}

async fn chunk(
    pool: &ArtifactPool,
    compile: &CompilePool,
    get: &ArtifactGet,
) -> Result<(serde_json::Value, Bytes), ApiError> {
    let (bytes, part) = match compile.chunk(&get.digest, get.offset).await? {
        Some(chunk) => chunk,
        None => pool.chunk(&get.digest, get.offset).await?,
    };
    let offset = get.offset;
    Ok((to_json(&ArtifactChunk { bytes, offset }), part))
}

fn to_json(answer: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(answer).unwrap_or_default()
}
