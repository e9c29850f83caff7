//! A broker's life: start, serve, drain.
//!
//! # Start
//!
//! The port is taken first, so that a port in use is told before anything else happens, and so
//! that the registration can name it. Then the broker registers and waits until its view includes
//! that registration: from there on no answer can say "no such topic" or "no committed offset"
//! about something that exists. Only then does it listen.
//!
//! # Tasks
//!
//! Five, all owned by [`Broker`]: the view's, the writer's, the session's, the listener's (which
//! owns the connections'), and the one that loads groups. They stop in the order groups, listener,
//! session, writer, view; what the read path reads ahead ends after the listener, when nobody fetches
//! any more.
//!
//! # Drain
//!
//! The broker leaves the metadata that clients see, stops accepting and reading, flushes its buffer,
//! answers what is in flight, and leaves. Each step is bounded; the whole takes seconds.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ottla_control_api::{ControlPlane, Registration};
use ottla_env::net::Bound;
use ottla_env::{Clock, Random, VitalTasks};
use ottla_format::command::RegisterBroker;
use ottla_model::{BrokerProfile, ClusterId, Endpoint, ProcessNonce, SOFTWARE_VERSION};
use ottla_object_io::Store;
use ottla_storage::cache::Cache;
use ottla_storage::read::Reader;
use ottla_storage::view::{View, ViewEnded, ViewTask};
use ottla_storage::write::{WriteOptions, WriteParts, Writer, WriterTask};
use ottla_telemetry::Metrics;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::context::{Context, CurrentWriter};
use crate::group::{GroupMemory, GroupOptions, Groups};
use crate::listener;
use crate::options::BrokerOptions;
use crate::producer_ids::ProducerIds;
use crate::record_check::RecordCheck;
use crate::registration::{self, AuthorSource, RegisterError};
use crate::{context, limits, placement};

/// The parts of a broker.
pub struct Parts {
    /// The control plane.
    pub control: Arc<dyn ControlPlane>,
    /// Where objects are.
    pub store: Arc<dyn Store>,
    /// Pieces of objects in memory.
    pub cache: Arc<Cache>,
    /// The cluster.
    pub cluster: ClusterId,
    /// How the write path behaves.
    pub write: WriteOptions,
    /// Wall-clock time.
    pub clock: Clock,
    /// Random numbers.
    pub random: Random,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address} for Kafka clients: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// It could not register.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// It registered with the control plane of another cluster.
    #[error("the control plane runs cluster {theirs}, not {ours}")]
    Cluster {
        /// The one it was started for.
        ours: ClusterId,
        /// The one it found.
        theirs: ClusterId,
    },
    /// The control plane stopped before the broker had caught up.
    #[error(transparent)]
    View(#[from] ViewEnded),
}

/// Why a running broker cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerEnd {
    /// It cannot hold a registration any more.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The task that writes has died of a defect: nothing that is produced would be answered.
    #[error("the write path failed inside the process; the lines before say how")]
    Writer,
    /// Another task has died of a defect.
    #[error("{0} failed; the lines before say how")]
    Task(&'static str),
}

/// A running broker. Dropping it ends its tasks at once; [`Broker::drain`] is the orderly way.
pub struct Broker {
    context: Arc<Context>,
    local_address: SocketAddr,
    draining: watch::Sender<bool>,
    takeover: JoinHandle<()>,
    listener: JoinHandle<()>,
    session: SessionTask,
    view: ViewTask,
    /// Notices when the listener, the session or the loading of groups panics.
    vital: VitalTasks,
}

/// The task that holds the registration, and with it the writer.
struct SessionTask {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    end: watch::Receiver<Option<BrokerEnd>>,
}

impl Broker {
    /// Starts a broker. Returns when clients can connect.
    pub async fn start(options: BrokerOptions, parts: Parts) -> Result<Self, StartError> {
        let address = options.listen;
        let listen_error = |error| StartError::Listen { address, error };
        let bound = Bound::new(address).map_err(listen_error)?;
        let local_address = bound.local_addr().map_err(listen_error)?;

        let (view, view_task) = View::start(&*parts.control, &parts.metrics);
        let request = register_request(&options, &parts.random, local_address);
        let nonce = request.nonce;
        let registration = registration::register(&*parts.control, &parts.random, &request).await?;
        if registration.cluster != parts.cluster {
            let (ours, theirs) = (parts.cluster, registration.cluster);
            return Err(StartError::Cluster { ours, theirs });
        }
        view.reached(registration.applied).await?;

        let (author_sender, author) = watch::channel(registration.author);
        let write_parts = write_parts(&parts, &registration, nonce);
        let (writer, writer_task) = Writer::start(write_parts.clone(), parts.write.clone());
        let writer = CurrentWriter::new(writer);
        let (draining, drains) = watch::channel(false);
        let context = Arc::new(context(options, &parts, view, author, writer.clone(), drains));

        let session = Session {
            request,
            registration,
            author: author_sender,
            writer,
            write_parts,
            write_options: parts.write,
        };
        let vital = VitalTasks::default();
        let session = session.start(writer_task, &vital);
        let takeover = vital.spawn("the loading of groups", take_over_groups(context.clone()));
        let listening = bound.listen().map_err(listen_error)?;
        let listener = listener::serve(listening, context.clone());
        let listener = vital.spawn("the listener", listener);
        tracing::info!(address = %local_address, "serving Kafka clients");
        let view = view_task;
        Ok(Self { context, local_address, draining, takeover, listener, session, view, vital })
    }

    #[cfg(test)]
    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The address it listens on.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Waits until the broker cannot go on by itself. The process should then drain and end.
    pub async fn ended(&self) -> BrokerEnd {
        tokio::select! {
            end = self.session_ended() => end,
            task = self.vital.failed() => BrokerEnd::Task(task),
            task = self.view.failed() => BrokerEnd::Task(task),
        }
    }

    async fn session_ended(&self) -> BrokerEnd {
        let mut end = self.session.end.clone();
        loop {
            if let Some(end) = &*end.borrow_and_update() {
                return end.clone();
            }
            if end.changed().await.is_err() {
                // The session's task only ends without a reason when it is told to.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Stops in order; see the module. Takes seconds, at most [`limits::DRAIN_MAX`] and a little.
    pub async fn drain(self) {
        let context = &self.context;
        let author = context.author.author();
        // Clients look for another broker before this one stops answering.
        match timeout(limits::LEAVE_MAX, context.control.drain_broker(author)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "could not leave the metadata"),
            Err(_) => tracing::debug!("could not leave the metadata in time"),
        }
        self.draining.send_replace(true);
        let writer = context.writer();
        let answer_all = async {
            tokio::join!(writer.drain(), context.groups.stop());
        };
        if timeout(limits::DRAIN_MAX, answer_all).await.is_err() {
            tracing::warn!("stopping with undecided batches; producers are told so");
        }
        if let Err(error) = self.takeover.await {
            tracing::error!(%error, "the loading of groups failed");
        }
        if let Err(error) = self.listener.await {
            tracing::error!(%error, "the listener's task failed");
        }
        context.reader.stop().await;
        self.session.stop().await;
        let author = context.author.author();
        if timeout(limits::LEAVE_MAX, context.control.leave(author)).await.is_err() {
            tracing::debug!("could not tell the control plane that this broker leaves");
        }
        self.view.stop().await;
    }
}

/// Until the broker stops.
async fn take_over_groups(context: Arc<Context>) {
    tokio::select! {
        () = context.until_draining() => {}
        () = context.groups.take_over() => {}
    }
}

fn register_request(
    options: &BrokerOptions,
    random: &Random,
    local_address: SocketAddr,
) -> RegisterBroker {
    let mut address = options.advertise.clone();
    if address.port == 0 {
        address.port = local_address.port();
    }
    let profile = BrokerProfile {
        az: options.az.clone(),
        endpoints: [Endpoint { listener: options.listener.clone(), address }].into(),
        internal: options.internal.clone(),
        software: SOFTWARE_VERSION.to_owned(),
    };
    RegisterBroker {
        broker: options.node_id,
        nonce: ProcessNonce(random.u64()),
        profile: profile.into(),
    }
}

fn write_parts(parts: &Parts, registration: &Registration, nonce: ProcessNonce) -> WriteParts {
    WriteParts {
        cluster: parts.cluster,
        author: registration.author,
        nonce,
        store: parts.store.clone(),
        control: parts.control.clone(),
        written: parts.cache.clone(),
        random: parts.random.clone(),
        metrics: parts.metrics.clone(),
    }
}

fn context(
    options: BrokerOptions,
    parts: &Parts,
    view: Arc<View>,
    author: watch::Receiver<ottla_model::BrokerAuthor>,
    writer: CurrentWriter,
    draining: watch::Receiver<bool>,
) -> Context {
    let author = AuthorSource::new(author);
    let reader = Reader::new(
        view.clone(),
        parts.cache.clone(),
        parts.store.clone(),
        parts.control.clone(),
        parts.cluster,
        parts.metrics.clone(),
    );
    let seen = view.clone();
    let groups = Groups::new(
        parts.control.clone(),
        author.clone(),
        Arc::new(move || placement::serving(seen.brokers())),
        parts.random.clone(),
        GroupOptions {
            initial_rebalance_delay: options.group_initial_rebalance_delay,
            ..GroupOptions::default()
        },
        GroupMemory::new(&parts.metrics),
    );
    let answers = context::answers_budget(options.edge.answers_bytes, &parts.metrics);
    let record_check = RecordCheck::new(options.check_large_batches);
    Context {
        cluster: parts.cluster,
        options,
        author,
        control: parts.control.clone(),
        view,
        reader,
        groups,
        clock: parts.clock.clone(),
        random: parts.random.clone(),
        metrics: parts.metrics.clone(),
        draining,
        writer,
        producer_ids: ProducerIds::default(),
        record_check,
        requests: context::requests_budget(&parts.metrics),
        calls: context::calls_budget(&parts.metrics),
        decoded_calls: context::decoded_calls_budget(&parts.metrics),
        fetch_plans: context::fetch_plans_budget(&parts.metrics),
        fetch_passes: context::fetch_passes_budget(&parts.metrics),
        answers,
    }
}

/// What the session's task works with.
struct Session {
    request: RegisterBroker,
    registration: Registration,
    author: watch::Sender<ottla_model::BrokerAuthor>,
    writer: CurrentWriter,
    write_parts: WriteParts,
    write_options: WriteOptions,
}

impl Session {
    fn start(self, writer_task: WriterTask, vital: &VitalTasks) -> SessionTask {
        let (stop, stopped) = oneshot::channel();
        let (end_sender, end) = watch::channel(None);
        let task = vital.spawn("the session", self.run(writer_task, stopped, end_sender));
        SessionTask { stop, task, end }
    }

    /// Holds the registration; takes a new one, with a new writer, whenever it was fenced.
    async fn run(
        mut self,
        mut writer_task: WriterTask,
        mut stopped: oneshot::Receiver<()>,
        end: watch::Sender<Option<BrokerEnd>>,
    ) {
        let control = self.write_parts.control.clone();
        let random = self.write_parts.random.clone();
        loop {
            let writer = self.writer.get();
            let mut writer_died = false;
            let fenced_at_commit = async {
                // Nobody stops a writer but this task.
                writer_died = !writer.fenced().await;
            };
            tokio::select! {
                _ = &mut stopped => break,
                () = registration::hold_session(&control, &self.registration, fenced_at_commit) => {}
            }
            if writer_died {
                end.send_replace(Some(BrokerEnd::Writer));
                break;
            }
            tracing::warn!(author = ?self.registration.author, "fenced; registering again");
            let again = registration::register(&*control, &random, &self.request);
            let registered = tokio::select! {
                _ = &mut stopped => break,
                registered = again => registered,
            };
            match registered {
                Ok(registration) => self.registration = registration,
                Err(error) => {
                    end.send_replace(Some(error.into()));
                    break;
                }
            }
            self.write_parts.author = self.registration.author;
            let parts = self.write_parts.clone();
            // Nothing more is stored under the old registration: what its writer holds is answered
            // as it ends, and keeps its successors out of the new one.
            let (fresh, fresh_task) = writer.succeed(writer_task, parts, &self.write_options).await;
            writer_task = fresh_task;
            self.author.send_replace(self.registration.author);
            self.writer.replace(fresh);
        }
        writer_task.stop().await;
    }
}

impl SessionTask {
    async fn stop(self) {
        // An error means that it has ended already.
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the session's task failed");
        }
    }
}
