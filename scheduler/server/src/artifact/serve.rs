//! Serves artifacts to agents by digest, in chunks, on a NATS connection of its own (D13): a hundred agents that fetch
//! at once delay no heartbeat.

use super::ArtifactPool;
use futures::StreamExt as _;
use heddle_protocol::api::artifact::{ArtifactChunk, ArtifactGet};
use heddle_protocol::api::{self, ApiError, ErrorCode, Response};
use heddle_protocol::id::Realm;
use heddle_protocol::{envelope, subject};

/// Requests answered at the same time: bounds the memory that answers take.
const IN_FLIGHT_MAX: usize = 64;
/// Schedulers of one realm share the requests.
const QUEUE_GROUP: &str = "artifacts";

/// Answers agents' requests for as long as the connection lives.
pub async fn serve_artifacts(
    client: async_nats::Client,
    realm: Realm,
    pool: ArtifactPool,
) -> Result<(), async_nats::SubscribeError> {
    let requests = client
        .queue_subscribe(subject::all_artifact_requests(&realm), QUEUE_GROUP.to_owned())
        .await?;
    requests
        .for_each_concurrent(IN_FLIGHT_MAX, |message| {
            let (client, pool) = (client.clone(), pool.clone());
            async move {
                let Some(reply) = message.reply.clone() else { return };
                let answer = answer(&pool, &message.payload).await;
                if let Err(e) = client.publish(reply, answer.into()).await {
                    tracing::warn!(error = %e, "an artifact chunk could not be sent; the agent asks again");
                }
            }
        })
        .await;
    Ok(())
}

async fn answer(pool: &ArtifactPool, payload: &[u8]) -> Vec<u8> {
    let result = match envelope::read::<ArtifactGet>("artifact request", payload) {
        Ok(get) => pool
            .chunk(&get.digest, get.offset)
            .await
            .map(|(bytes, part)| (bytes, get.offset, part)),
        Err(e) => Err(ApiError::new(ErrorCode::BadRequest, e.to_string(), "update the agent")),
    };
    let (response, part) = match result {
        Ok((bytes, offset, part)) => {
            let chunk = serde_json::to_value(ArtifactChunk { bytes, offset }).unwrap_or_default();
            (
                Response {
                    v: api::VERSION,
                    ok: Some(chunk),
                    error: None,
                },
                part,
            )
        }
        Err(error) => (
            Response {
                v: api::VERSION,
                ok: None,
                error: Some(error),
            },
            bytes::Bytes::new(),
        ),
    };
    api::join("artifact chunk", &response, &part).unwrap_or_default()
}
