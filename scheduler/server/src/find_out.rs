//! What a decision needs to know is found out here, beside the loop: artifacts are composed and checked, backends are
//! asked for secrets.
//!
//! In: what the core says it needs. Out: the same knowledge and what was learned; the change then joins the queue again.

use crate::artifact::ArtifactPool;
use crate::compile::CompilePool;
use crate::secret::SecretAnswers;
use futures::StreamExt as _;
use heddle_protocol::api::{ApiError, ErrorCode};
use heddle_scheduler_core::{ArtifactTask, Known, Needed};
use std::sync::Arc;

/// How often the world may move on while something is found out, before a change is given up.
pub const ATTEMPTS_MAX: u32 = 5;
/// Tasks and secrets of one change that are worked on at the same time. The pool bounds what really runs.
const AT_ONCE: usize = 8;

/// Whoever finds things out.
#[derive(Clone)]
pub(crate) struct Finder {
    pool: ArtifactPool,
    compile: CompilePool,
    secrets: Arc<dyn SecretAnswers>,
}

impl Finder {
    /// Works on a pool, and asks somebody for secrets.
    pub(crate) fn new(pool: ArtifactPool, compile: CompilePool, secrets: Arc<dyn SecretAnswers>) -> Self {
        Self { pool, compile, secrets }
    }

    /// Adds to what is known all that is needed.
    ///
    /// # Errors
    /// If something cannot be tried now. What was tried and failed is knowledge too, and no error.
    pub(crate) async fn find_out(&self, needed: Needed, mut known: Known) -> Result<Known, ApiError> {
        let mut tasks = futures::stream::iter(needed.tasks)
            .map(|task| self.carry_out(task))
            .buffer_unordered(AT_ONCE);
        while let Some(result) = tasks.next().await {
            let (digest, outcome) = result?;
            known.tasks.insert(digest, outcome);
        }
        let mut answers = futures::stream::iter(needed.secrets)
            .map(|secret| async move { (secret.id(), self.secrets.answer(&secret).await) })
            .buffer_unordered(AT_ONCE);
        while let Some((id, answer)) = answers.next().await {
            known.secrets.insert(id, answer);
        }
        Ok(known)
    }

    async fn carry_out(
        &self,
        task: ArtifactTask,
    ) -> Result<(heddle_protocol::digest::Digest, crate::artifact::task::Outcome), ApiError> {
        let digest = task.digest().map_err(|e| {
            let message = format!("failed to name a task: {e}");
            ApiError::new(ErrorCode::Internal, message, "report this")
        })?;
        let outcome = self.pool.run(&task).await?;
        if let (ArtifactTask::Compose(_), Ok(composed)) = (&task, &outcome) {
            self.compile.precompile(std::slice::from_ref(composed)).await?;
        }
        Ok((digest, outcome))
    }
}

/// A change whose world moved on each time that something was found out for it.
pub(crate) fn moved_on() -> ApiError {
    ApiError::new(
        ErrorCode::Conflict,
        format!(
            "failed to decide: what the change rests on was changed by others {ATTEMPTS_MAX} times while it was worked out"
        ),
        "apply it again when the other changes are through",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::login::Logins;
    use crate::artifact::oci::Fetcher;
    use crate::compile::CompileOptions;
    use crate::store::{ArtifactStore, CodeStore};
    use heddle_protocol::digest::Digest;
    use heddle_protocol::host_spec::SecretUse;
    use heddle_protocol::sign::SigningKey;
    use heddle_scheduler_core::SecretAnswer;
    use heddle_scheduler_core::apply::CallCheck;

    /// Knows one secret.
    struct OneSecret;

    #[async_trait::async_trait]
    impl SecretAnswers for OneSecret {
        async fn answer(&self, secret: &SecretUse) -> SecretAnswer {
            match secret.path == "db" {
                true => SecretAnswer::Version("3".to_owned()),
                false => SecretAnswer::Refused("there is none".to_owned()),
            }
        }
    }

    async fn finder() -> (Finder, ArtifactPool) {
        let pool = ArtifactPool::new(ArtifactStore::in_memory(), Fetcher::new(Logins::default(), Vec::new()));
        // No host said hello, so there is no engine to compile for.
        let (code, key) = (CodeStore::in_memory(), Arc::new(SigningKey::generate()));
        let compile = CompilePool::open(CompileOptions::default(), pool.clone(), code, key);
        let compile = compile.await.unwrap();
        (Finder::new(pool.clone(), compile, Arc::new(OneSecret)), pool)
    }

    fn secret(path: &str) -> SecretUse {
        serde_json::from_value(serde_json::json!({ "from": "vault", "path": path })).unwrap()
    }

    fn check(caller: Digest) -> ArtifactTask {
        ArtifactTask::CheckCall(CallCheck {
            caller,
            import: "acme:tax/rates@1.0.0".to_owned(),
            callee: None,
            export: "acme:tax/rates@1.0.0".to_owned(),
        })
    }

    #[tokio::test]
    async fn what_is_found_out_is_added_to_what_is_known() {
        let (finder, pool) = finder().await;
        let bytes = wat::parse_str("(component)").unwrap();
        let caller = pool.put(None, bytes.into()).await.unwrap();
        let (task, db, other) = (check(caller.digest), secret("db"), secret("other"));
        let mut known = Known::default();
        known
            .secrets
            .insert(Digest::of(b"before"), SecretAnswer::Version("1".to_owned()));
        let needed = Needed {
            tasks: vec![task.clone()],
            secrets: vec![db.clone(), other.clone()],
        };
        let known = finder.find_out(needed, known).await.unwrap();
        // That a task fails is knowledge: the core says so in its own words.
        assert!(known.tasks[&task.digest().unwrap()].is_err());
        assert_eq!(known.secrets[&db.id()], SecretAnswer::Version("3".to_owned()));
        assert_eq!(
            known.secrets[&other.id()],
            SecretAnswer::Refused("there is none".to_owned())
        );
        assert_eq!(known.secrets.len(), 3);
    }

    #[tokio::test]
    async fn an_artifact_that_is_gone_ends_the_change() {
        let (finder, _) = finder().await;
        let needed = Needed {
            tasks: vec![check(Digest::of(b"gone"))],
            secrets: Vec::new(),
        };
        let error = finder.find_out(needed, Known::default()).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Artifact);
        assert!(moved_on().message.contains("5 times"));
    }
}
