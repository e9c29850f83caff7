//! Calls to the control plane that are repeated until they have an answer.

use std::future::Future;

use ottla_control_api::{CallError, CallErrorKind, OpError};
use tokio::time::Instant;

use crate::context::Context;
use crate::limits;

/// An error that may come from the call as such.
pub trait CallFailure {
    /// The call's own error; `None` when the state machine answered.
    fn call(&self) -> Option<&CallError>;
}

impl CallFailure for CallError {
    fn call(&self) -> Option<&CallError> {
        Some(self)
    }
}

impl<R: std::fmt::Debug> CallFailure for OpError<R> {
    fn call(&self) -> Option<&CallError> {
        match self {
            Self::Refused(_) => None,
            Self::Call(error) => Some(error),
        }
    }
}

/// Repeats an idempotent call while its failure allows it, until `deadline`; then the last failure
/// stands. Calls are never cancelled on their way: each has a deadline of its own.
pub async fn retrying<T, E: CallFailure, F: Future<Output = Result<T, E>>>(
    context: &Context,
    deadline: Instant,
    mut call: impl FnMut() -> F,
) -> Result<T, E> {
    let mut pause = limits::CALL_PAUSE_FIRST;
    loop {
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let may_repeat = error.call().is_some_and(|error| {
            matches!(error.kind(), CallErrorKind::Retry | CallErrorKind::RetryUnknown)
        });
        if !may_repeat || Instant::now() + pause >= deadline {
            return Err(error);
        }
        ottla_env::delay(context.random.jitter(pause)).await;
        pause = (pause * 2).min(limits::CALL_PAUSE_MAX);
    }
}
