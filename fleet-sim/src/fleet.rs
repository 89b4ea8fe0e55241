//! The whole fleet: connects, deals messages to the shards, and is told what to do with its hosts.

use crate::counters::{Counted, Counters};
use crate::host::{Host, answers_subject};
use crate::ledger::Ledger;
use crate::options::FleetOptions;
use crate::shard::{Input, Order, Shard, What};
use anyhow::{Context as _, Result, ensure};
use async_nats::{Client, Message, Subscriber};
use futures::StreamExt as _;
use heddle_protocol::id::HostId;
use heddle_protocol::subject;
use heddle_wire::connect::{ConnectOptions, connect};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Messages that wait for one shard; the receiving task waits when there are more, and then NATS does.
const INPUTS_MAX: usize = 16_384;

/// A fleet of pretended hosts. It ends with the value.
pub struct Fleet {
    options: Arc<FleetOptions>,
    shards: Vec<mpsc::Sender<Input>>,
    per_shard: usize,
    counters: Arc<Counters>,
    ledger: Arc<Ledger>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Fleet {
    /// Connects. No host is started yet.
    ///
    /// # Errors
    /// If NATS cannot be reached, or the options name no hosts that there can be.
    pub async fn new(options: FleetOptions) -> Result<Self> {
        ensure!(options.hosts > 0, "failed to make a fleet: it has no hosts");
        ensure!(
            !options.realm_keys.is_empty(),
            "failed to make a fleet: no realm key is named"
        );
        let options = Arc::new(options);
        let shards = options.shards.clamp(1, options.hosts);
        let per_shard = options.hosts.div_ceil(shards);
        let (counters, ledger, began) = (Arc::<Counters>::default(), Arc::<Ledger>::default(), Instant::now());
        let (mut senders, mut tasks) = (Vec::new(), Vec::new());
        for first in (0..options.hosts).step_by(per_shard) {
            let numbers = first..(first + per_shard).min(options.hosts);
            let hosts = numbers.map(|number| Host::new(number, &options));
            let shard = Shard {
                client: client(&options, &format!("shard-{first}")).await?,
                options: Arc::clone(&options),
                counters: Arc::clone(&counters),
                ledger: Arc::clone(&ledger),
                first,
                hosts: hosts.collect::<Result<_, _>>()?,
                began,
            };
            let (sender, inputs) = mpsc::channel(INPUTS_MAX);
            senders.push(sender);
            tasks.push(tokio::spawn(shard.run(inputs)));
        }
        let receiver = client(&options, "receiver").await?;
        let orders = receiver.subscribe(all_orders(&options)?).await?;
        let answers = receiver.subscribe(answers_subject(&options.prefix)).await?;
        receiver.flush().await.context("failed to reach NATS")?;
        let numbers: Arc<BTreeMap<String, usize>> =
            Arc::new((0..options.hosts).map(|n| (options.host_name(n), n)).collect());
        let deal = Deal {
            shards: senders.clone(),
            per_shard,
        };
        tasks.push(tokio::spawn(deal.clone().messages(receiver.clone(), orders, numbers)));
        tasks.push(tokio::spawn(deal.welcomes(receiver, answers)));
        Ok(Self {
            options,
            shards: senders,
            per_shard,
            counters,
            ledger,
            tasks,
        })
    }

    /// The name of a host, by its number.
    ///
    /// # Errors
    /// Never for a host of this fleet.
    pub fn host(&self, number: usize) -> Result<HostId> {
        Ok(HostId::parse(&self.options.host_name(number))?)
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.options.hosts
    }

    /// What came and went so far.
    pub fn counted(&self) -> Counted {
        self.counters.read()
    }

    /// Every start of every replica.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Starts hosts, spread over the time that the options name. Those that live crash first, and start again with
    /// nothing on their disks.
    ///
    /// # Errors
    /// If the fleet has ended.
    pub async fn start(&self, hosts: impl IntoIterator<Item = usize>) -> Result<()> {
        self.start_over(hosts, self.options.spread, false).await
    }

    /// The same over a time of its own, with or without the spec of the last life on the hosts' disks.
    ///
    /// # Errors
    /// If the fleet has ended.
    pub async fn start_over(
        &self,
        hosts: impl IntoIterator<Item = usize>,
        over: Duration,
        keeps_spec: bool,
    ) -> Result<()> {
        let over_ms = u64::try_from(over.as_millis()).unwrap_or(u64::MAX - 1);
        self.order(hosts, What::Start { over_ms, keeps_spec }).await
    }

    /// Ends hosts without a word.
    ///
    /// # Errors
    /// If the fleet has ended.
    pub async fn kill(&self, hosts: impl IntoIterator<Item = usize>) -> Result<()> {
        self.order(hosts, What::Die).await
    }

    /// Tells hosts to stop: they go when their work was taken over.
    ///
    /// # Errors
    /// If the fleet has ended.
    pub async fn leave(&self, hosts: impl IntoIterator<Item = usize>) -> Result<()> {
        self.order(hosts, What::Leave).await
    }

    async fn order(&self, hosts: impl IntoIterator<Item = usize>, what: What) -> Result<()> {
        let mut dealt: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for host in hosts {
            dealt.entry(host / self.per_shard).or_default().push(host);
        }
        let mut waits = Vec::new();
        for (shard, hosts) in dealt {
            let shard = self.shards.get(shard).context("there is no such host")?;
            let (done, wait) = oneshot::channel();
            let order = Input::Order(Order { hosts, what, done });
            shard.send(order).await.ok().context("the fleet has ended")?;
            waits.push(wait);
        }
        for wait in waits {
            wait.await.context("the fleet has ended")?;
        }
        Ok(())
    }
}

/// Everything that the scheduler tells any host of the realm.
fn all_orders(options: &FleetOptions) -> Result<String> {
    let host = HostId::parse(&options.host_name(0))?;
    let one = subject::all_of_host(&options.realm, &host);
    Ok(one.replace(&format!(".{host}."), ".*."))
}

/// Deals messages to the shards.
#[derive(Clone)]
struct Deal {
    shards: Vec<mpsc::Sender<Input>>,
    per_shard: usize,
}

impl Deal {
    /// `_client` lives as long as its subscription.
    async fn messages(self, _client: Client, mut messages: Subscriber, numbers: Arc<BTreeMap<String, usize>>) {
        while let Some(message) = messages.next().await {
            let mut tokens = message.subject.rsplit('.');
            let host = tokens.nth(1).and_then(|name| numbers.get(name)).copied();
            if let Some(host) = host {
                self.to(host, Input::Message { host, message }).await;
            }
        }
    }

    async fn welcomes(self, _client: Client, mut messages: Subscriber) {
        while let Some(message) = messages.next().await {
            if let Some(host) = last_number(&message) {
                self.to(host, Input::Welcome { host, message }).await;
            }
        }
    }

    async fn to(&self, host: usize, input: Input) {
        if let Some(shard) = self.shards.get(host / self.per_shard) {
            // A shard is gone only when the fleet ends.
            let _ = shard.send(input).await;
        }
    }
}

fn last_number(message: &Message) -> Option<usize> {
    message.subject.rsplit('.').next()?.parse().ok()
}

async fn client(options: &FleetOptions, name: &str) -> Result<Client> {
    let connecting = ConnectOptions::new(&options.nats, format!("heddle-fleet-sim-{name}"));
    Ok(connect(&connecting).await?.client)
}
