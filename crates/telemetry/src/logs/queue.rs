//! Lines on their way to standard error.
//!
//! Nobody waits for whoever reads the log. A thread of its own writes the lines; everyone else puts
//! them into a bounded queue. A line that finds it full is dropped and counted, and the number is
//! reported when there is room again, and no more often than the limit on lines of one place lets
//! through: a report that was kept back would lose its number. A process that ends waits for its
//! last lines, for a bounded time.
//!
//! The `tracing-appender` crate has such a writer. Its queue is bounded in lines and not in bytes,
//! and what it dropped is told nowhere.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{DROPPED_REPORT_INTERVAL, LINES_WAITING_BYTES_MAX, LINES_WAITING_MAX};

/// See the module.
#[derive(Debug)]
pub(super) struct LineQueue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The thread is in the middle of a line.
    writing: bool,
    dropped: u64,
    /// Of the dropped ones, the number that was reported.
    reported: u64,
    /// When that was.
    reported_at: Option<Instant>,
}

impl LineQueue {
    pub(super) const fn new() -> Self {
        let state = State {
            lines: VecDeque::new(),
            bytes: 0,
            writing: false,
            dropped: 0,
            reported: 0,
            reported_at: None,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds a line, or drops it when there is no room. Never waits for a reader.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.lines.len() >= LINES_WAITING_MAX
            || state.bytes + line.len() > LINES_WAITING_BYTES_MAX
        {
            state.dropped += 1;
            return;
        }
        state.add(line);
        self.changed.notify_all();
    }

    /// Adds the last words of a process, for which there is always room.
    pub(super) fn push_last(&self, line: &[u8]) {
        self.lock().add(line);
        self.changed.notify_all();
    }

    /// Lines that were dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Waits until everything is written, but no longer than `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let unwritten = |state: &mut State| state.writing || !state.lines.is_empty();
        // Written or not, the process ends now.
        let _ = self.changed.wait_timeout_while(self.lock(), limit, unwritten);
    }

    /// Writes lines for as long as the process lives. `report` says how many were dropped.
    pub(super) fn write_to(&self, mut sink: impl Write, report: impl Fn(u64)) {
        loop {
            let line = self.next();
            // A log that cannot be written has no place left to say so.
            let _ = sink.write_all(&line).and_then(|()| sink.flush());
            if let Some(dropped) = self.written(Instant::now()) {
                report(dropped);
            }
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| state.lines.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let line = state.lines.pop_front().unwrap_or_default();
        state.bytes -= line.len();
        state.writing = true;
        line
    }

    /// Notes that a line is written. Answers how many were dropped and not reported, when there is
    /// room for a report and the last one is long enough ago.
    fn written(&self, now: Instant) -> Option<u64> {
        let mut state = self.lock();
        state.writing = false;
        self.changed.notify_all();
        let unreported = state.dropped - state.reported;
        let is_early = state
            .reported_at
            .is_some_and(|at| now.saturating_duration_since(at) < DROPPED_REPORT_INTERVAL);
        if unreported == 0 || is_early || !state.has_room_for_a_report() {
            return None;
        }
        state.reported = state.dropped;
        state.reported_at = Some(now);
        Some(unreported)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Half of the queue: lines of others that come before the report do not fill it.
    fn has_room_for_a_report(&self) -> bool {
        self.lines.len() <= LINES_WAITING_MAX / 2 && self.bytes <= LINES_WAITING_BYTES_MAX / 2
    }

    fn add(&mut self, line: &[u8]) {
        self.bytes += line.len();
        self.lines.push_back(line.to_vec());
    }
}

/// The queue as `tracing-subscriber` writes to it: one call per line.
pub(super) struct LineSink(pub(super) &'static LineQueue);

impl Write for LineSink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::logs::rate::PlaceLimits;

    const LONG: Duration = Duration::from_secs(60);

    /// A reader that takes a line when it is told to.
    struct Reader {
        permits: mpsc::Receiver<()>,
        read: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.permits.recv().map_err(io::Error::other)?;
            self.read.send(line.to_vec()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_without_a_reader_are_dropped_and_their_number_is_told_when_there_is_room() {
        let queue: &'static LineQueue = Box::leak(Box::new(LineQueue::new()));
        let (permit, permits) = mpsc::channel();
        let (read, lines) = mpsc::channel();
        let (report, reported) = mpsc::channel();
        thread::spawn(move || {
            queue.write_to(Reader { permits, read }, |dropped| report.send(dropped).unwrap());
        });
        let sent = LINES_WAITING_MAX + 100;
        for number in 0..sent {
            queue.push(format!("{number}").as_bytes());
        }
        queue.push(&vec![b'x'; LINES_WAITING_BYTES_MAX]);
        // One may be in the reader's hands.
        let dropped = queue.dropped();
        assert!((100..=101).contains(&dropped), "{dropped}");
        queue.flush(Duration::from_millis(1));

        queue.push_last(b"last");
        for _ in 0..=sent {
            permit.send(()).unwrap();
        }
        assert_eq!(reported.recv_timeout(LONG).unwrap(), dropped);
        queue.flush(LONG);
        let lines: Vec<_> = lines.try_iter().collect();
        assert_eq!(
            (lines[0].as_slice(), lines.last().unwrap().as_slice()),
            (&b"0"[..], &b"last"[..])
        );
        assert_eq!(lines.len() as u64, sent as u64 + 2 - dropped);
    }
    #[tokio::test(start_paused = true)]
    async fn no_report_of_dropped_lines_is_kept_back_by_the_limit_on_lines_of_a_place() {
        let (queue, limits) = (LineQueue::new(), PlaceLimits::default());
        let place = ("queue.rs", 1);
        let too_long = vec![b'x'; LINES_WAITING_BYTES_MAX + 1];
        let (mut dropped, mut reported, mut reports) = (0, 0, 0);
        for _ in 0..10_000 {
            queue.push(&too_long);
            dropped += 1;
            tokio::time::advance(Duration::from_millis(7)).await;
            if let Some(number) = queue.written(Instant::now()) {
                assert!(limits.permit_place(place).is_some(), "kept back: {number} lines");
                reported += number;
                reports += 1;
            }
        }
        tokio::time::advance(DROPPED_REPORT_INTERVAL).await;
        reported += queue.written(Instant::now()).unwrap_or_default();
        assert_eq!(reported, dropped);
        assert!((60..=71).contains(&reports), "{reports} in 70 seconds");
    }
}
