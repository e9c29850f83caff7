//! The broker's registration with the control plane: who it is at the moment, and how it stays so.
//!
//! # Contract
//!
//! A registration gives the broker an epoch. Everything it sends to the control plane carries that
//! epoch; once another registration of the same id or the end of the session fences it, everything
//! that still comes of it is refused (I-FENCE). The session is renewed several times within its
//! length. A failed renewal is not an end: only the word "fenced" is, from a renewal or from a
//! commit.
//!
//! # When fenced
//!
//! A broker whose session ended (it was frozen, or cut off) registers again by itself: same
//! process nonce, new epoch. Its writer is replaced: the old one's batches are answered "not
//! stored" or "may be stored", the new one starts at sequence 0 of the new epoch. A broker that was
//! fenced by a *newer registration of its own id* must not do so, or two processes would fence each
//! other for ever: it ends with one line.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ottla_control_api::{CallError, CallErrorKind, ControlPlane, OpError, Registration};
use ottla_env::Random;
use ottla_format::command::{RegisterBroker, RegisterRefusal};
use ottla_model::BrokerAuthor;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::limits;

/// The broker's present registration; cheap to clone. It changes when the broker was fenced and
/// registered again, so that commands ask for it each time instead of keeping a copy.
#[derive(Clone, Debug)]
pub struct AuthorSource(watch::Receiver<BrokerAuthor>);

impl AuthorSource {
    /// Follows a registration.
    pub fn new(current: watch::Receiver<BrokerAuthor>) -> Self {
        Self(current)
    }

    /// A registration that never changes.
    pub fn fixed(author: BrokerAuthor) -> Self {
        Self(watch::channel(author).1)
    }

    /// The registration to put into commands now.
    pub fn author(&self) -> BrokerAuthor {
        *self.0.borrow()
    }
}

/// Why a broker cannot register.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Another process has registered the same id since.
    #[error("another process has registered node id {0} since; this one must end")]
    ReplacedByNewer(i32),
    /// The control plane will not answer any more.
    #[error(transparent)]
    Call(CallError),
}

/// Registers, and tries again until there is an answer.
pub(crate) async fn register(
    control: &dyn ControlPlane,
    random: &Random,
    request: &RegisterBroker,
) -> Result<Registration, RegisterError> {
    let mut pause = limits::CALL_PAUSE_FIRST;
    let mut told = false;
    loop {
        let error = match control.register_broker(request.clone()).await {
            Ok(registration) => return Ok(registration),
            Err(OpError::Refused(RegisterRefusal::ReplacedByNewer)) => {
                return Err(RegisterError::ReplacedByNewer(request.broker.0));
            }
            Err(OpError::Call(error)) => error,
        };
        match error.kind() {
            CallErrorKind::Retry | CallErrorKind::RetryUnknown => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(%error, "waiting for the control plane to register");
                }
                ottla_env::delay(random.jitter(pause)).await;
                pause = (pause * 2).min(limits::CALL_PAUSE_MAX);
            }
            CallErrorKind::ShuttingDown | CallErrorKind::Unsupported | CallErrorKind::Internal => {
                return Err(RegisterError::Call(error));
            }
        }
    }
}

/// Keeps a session alive until it is fenced. `fenced_elsewhere` ends when something else learns that
/// the epoch is over.
pub(crate) async fn hold_session(
    control: &Arc<dyn ControlPlane>,
    registration: &Registration,
    fenced_elsewhere: impl Future<Output = ()>,
) {
    let period = Duration::from_millis(registration.session_ms) / limits::RENEWALS_PER_SESSION;
    let mut fenced_elsewhere = pin!(fenced_elsewhere);
    loop {
        tokio::select! {
            () = &mut fenced_elsewhere => return,
            () = ottla_env::delay(period) => {}
        }
        // One call that hangs must not cost the renewals after it.
        match timeout(period, control.renew_session(registration.author)).await {
            Ok(Ok(())) => {}
            Ok(Err(OpError::Refused(_))) => return,
            Ok(Err(OpError::Call(error))) => tracing::debug!(%error, "a session was not renewed"),
            Err(_) => tracing::debug!("a session's renewal was not answered in time"),
        }
    }
}
