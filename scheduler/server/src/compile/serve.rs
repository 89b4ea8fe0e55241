//! What agents ask about native code, answered on the subject that artifacts are served on.
//!
//! In: which code an artifact has for an engine. Out: the signed answer; or, when it takes longer than a moment, that it is
//! under way, for those who wait must not keep others from their chunks.

use super::{CompilePool, Refusal};
use bytes::Bytes;
use heddle_protocol::api::artifact::{CompiledAnswer, CompiledGet};
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_protocol::defaults::CHUNK_BYTES;
use heddle_protocol::digest::Digest;
use std::time::Duration;

/// How long an answer waits for a compile.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

impl CompilePool {
    /// Answers an agent. Out: the answer, and the envelope that is attached to it.
    pub(crate) async fn answer(&self, get: &CompiledGet) -> Result<(CompiledAnswer, Bytes), ApiError> {
        let compiled = self.compiled(get.artifact, &get.fingerprint);
        let Ok(result) = tokio::time::timeout(ANSWER_WITHIN, compiled).await else {
            return Ok((CompiledAnswer::UnderWay, Bytes::new()));
        };
        match result {
            Ok(code) => Ok((CompiledAnswer::Signed, self.sign(&code)?.into())),
            Err(Refusal::Unsupported(reason)) => Ok((CompiledAnswer::Unsupported { reason }, Bytes::new())),
            Err(Refusal::Refused(why)) => Err(ApiError::new(
                ErrorCode::Artifact,
                format!("failed to compile: {why}"),
                "apply another version of the component",
            )),
            Err(Refusal::Unavailable(why)) => Err(ApiError::new(ErrorCode::Unavailable, why, "ask again in a moment")),
        }
    }

    /// At most [`CHUNK_BYTES`] of code from an offset, and its whole size. None if it is not code.
    pub(crate) async fn chunk(&self, digest: &Digest, offset: u64) -> Result<Option<(u64, Bytes)>, ApiError> {
        let Some(bytes) = self.bytes(digest).await? else {
            return Ok(None);
        };
        let start = offset.min(bytes.len() as u64) as usize;
        let end = (start + CHUNK_BYTES).min(bytes.len());
        Ok(Some((bytes.len() as u64, bytes.slice(start..end))))
    }
}
