//! F57: clients whose produce time-out is shorter than an object takes. Each of their records is
//! stored once, and they are told so: an early "may or may not be stored" would make them send it
//! again.

use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_env::delay;
use ottla_tests::edge::{Edge, TOPIC};
use ottla_tests::raw::{RawClient, version};
use ottla_tests::topic;
use rdkafka::ClientConfig;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

/// The early objects of a store that charges for them: beyond these, records wait for the linger.
const CHARGED: [(&str, &str); 1] = [("OTTLA__PRODUCE__PUT_RATE", "8")];

/// More than can be saved up of those.
const RECORDS: i64 = 40;

/// Between two records: each comes alone.
const PAUSE: Duration = Duration::from_millis(30);

#[tokio::test]
async fn f57_a_short_time_out_is_answered_with_the_truth() -> Result<()> {
    let edge = Edge::start("short-timeouts", &CHARGED).await?;
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    let mut stored = 0;
    for acks in [1, -1] {
        for timeout_ms in [i32::MIN, -1, 0, 1, 50, 100] {
            for _ in 0..10 {
                let batch = topic::batch(&["record".to_owned()], 0, None)?;
                let request = topic::produce_request(TOPIC, 0, batch)
                    .with_acks(acks)
                    .with_timeout_ms(timeout_ms);
                let answer = client.call(version::PRODUCE, &request).await?;
                let told = &answer.responses[0].partition_responses[0];
                let told = (told.error_code, told.base_offset);
                ensure!(told == (0, stored), "acks {acks}, {timeout_ms} ms: {told:?}");
                stored += 1;
            }
        }
    }
    ensure!(topic::end(&mut client, TOPIC, 0).await? == stored, "stored more than was told");
    edge.survived(64 << 20).await
}

/// librdkafka sends `request.timeout.ms` and believes the broker's answer.
#[tokio::test]
async fn f57_librdkafka_with_a_short_time_out_stores_each_record_once() -> Result<()> {
    let edge = Edge::start("short-timeouts-librdkafka", &CHARGED).await?;
    for (timeout_ms, acks) in [("1", "1"), ("10", "1"), ("50", "1"), ("100", "1"), ("100", "all")] {
        let name = format!("{timeout_ms}-{acks}");
        topic::create(&edge.bootstrap, &name, 1).await?;
        let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
            .set("bootstrap.servers", &edge.bootstrap)
            .set("request.timeout.ms", timeout_ms)
            .set("acks", acks)
            .set("linger.ms", "0")
            .set("retry.backoff.ms", "50")
            .create()?;
        for _ in 0..RECORDS {
            let record = BaseRecord::<(), str>::to(&name).partition(0).payload("record");
            producer.send(record).map_err(|(error, _)| error)?;
            delay(PAUSE).await;
        }
        tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(30))).await??;
        let mut client = RawClient::connect(&edge.bootstrap).await?;
        let stored = topic::end(&mut client, &name, 0).await?;
        ensure!(stored == RECORDS, "{name}: {RECORDS} sent, {stored} stored");
    }
    edge.survived(64 << 20).await
}
