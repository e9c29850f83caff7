//! The end of a connection's long polls, before their time is over.

use tokio::sync::watch;

/// Tells the fetches of one connection that wait for records to answer with what there is. Cheap to
/// clone; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct LongPolls(watch::Sender<bool>);

impl LongPolls {
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Ends those that wait, and those to come.
    pub fn end(&self) {
        self.0.send_replace(true);
    }

    /// Waits for [`LongPolls::end`].
    pub async fn ended(&self) {
        // Fails only when the sender is gone, and the sender is ours.
        let _ = self.0.subscribe().wait_for(|ended| *ended).await;
    }
}
