//! Past decisions, made again beside the loop.

use super::fit;
use crate::outside::off_the_loop;
use crate::past::{find, replay as past};
use crate::serve::plain;
use crate::store::PastStore;
use bytes::Bytes;
use heddle_protocol::api::replay::Replay;
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_scheduler_core::LivenessOptions;

/// `replay`.
pub async fn replay(
    store: PastStore,
    liveness: LivenessOptions,
    body: Replay,
) -> Result<(serde_json::Value, Bytes), ApiError> {
    let steps = find::steps(&store, body.commit).await?;
    let commit = body.commit;
    let again = off_the_loop(move || past::replay(&steps, liveness, body.explain.as_ref())).await;
    let failed = |code, why: &dyn std::fmt::Display, next: &str| {
        ApiError::new(
            code,
            format!("failed to make the decision of commit {commit} again: {why}"),
            next,
        )
    };
    match again {
        Ok(Ok(mut replayed)) => {
            replayed.explanation = replayed.explanation.map(fit::explanation);
            plain(&replayed)
        }
        Ok(Err(error)) => Err(failed(
            ErrorCode::NotFound,
            &error,
            "`heddle audit` shows what changed in it",
        )),
        Err(error) => Err(failed(ErrorCode::Internal, &error, "report this")),
    }
}
