//! One end of a connection, behind the faults of its link.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{Connection, FaultId, LinkFault, Links, State};
use crate::history::Name;

/// How much one end holds back at most before its peer has to wait: the size of an ordinary socket buffer.
const HELD_BYTES_MAX: usize = 256 * 1024;

/// How much is taken from the stream at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// One end of a connection. Reads are subject to the faults of the direction from the peer to this end.
pub struct LinkStream<S> {
    links: Links,
    connection: Arc<Connection>,
    me: Name,
    peer: Name,
    inner: S,
    held: VecDeque<Held>,
    held_bytes: usize,
    last_release: Option<Instant>,
    /// A slow reader gets nothing more before `free_at`; `waited` says whether the front has waited for that time.
    free_at: Option<Instant>,
    waited: bool,
    /// The stream itself has ended or failed, so nothing more can be taken from it.
    drained: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

struct Held {
    release: Option<Instant>,
    what: Arrived,
}

enum Arrived {
    Data(Bytes),
    End,
    Failed(io::ErrorKind),
}

/// What the link does to this end at the moment.
struct Weather {
    stalls: Vec<FaultId>,
    holes: Vec<FaultId>,
    delayed: bool,
    /// The slowest throttle, and the fault that it belongs to.
    throttle: Option<(u64, FaultId)>,
}

impl<S> LinkStream<S> {
    pub(super) fn new(links: Links, connection: Arc<Connection>, me: Name, peer: Name, inner: S) -> Self {
        Self {
            links,
            connection,
            me,
            peer,
            inner,
            held: VecDeque::new(),
            held_bytes: 0,
            last_release: None,
            free_at: None,
            waited: false,
            drained: false,
            timer: None,
        }
    }

    /// Returns the stream underneath.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns what the link does to this end, or `None` if there is no fault.
    fn weather(&self) -> Option<Weather> {
        let inner = self.links.lock();
        let faults = inner.faults(&self.peer, &self.me);
        if faults.is_empty() {
            return None;
        }
        let of = |kind: LinkFault| faults.iter().filter(|(_, f)| *f == kind).map(|(id, _)| *id).collect();
        Some(Weather {
            stalls: of(LinkFault::Stall),
            holes: of(LinkFault::Blackhole),
            delayed: faults.iter().any(|(_, fault)| matches!(fault, LinkFault::Delay { .. })),
            throttle: faults
                .iter()
                .filter_map(|(id, fault)| match fault {
                    LinkFault::Throttle { bytes } => Some(((*bytes).max(1), *id)),
                    _ => None,
                })
                .min(),
        })
    }

    /// Returns the state of the connection, and registers to be woken when it changes.
    fn fate(&self, context: &Context<'_>) -> State {
        let mut fate = self.connection.lock();
        if !fate.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            fate.wakers.push(context.waker().clone());
        }
        fate.state
    }

    fn hold(&mut self, what: Arrived, weather: Option<&Weather>) {
        let bytes = match &what {
            Arrived::Data(bytes) => bytes.len(),
            Arrived::End | Arrived::Failed(_) => 1,
        };
        let mut inner = self.links.lock();
        let mut release = None;
        if let Some(weather) = weather {
            for id in &weather.stalls {
                inner.evidence.entry(*id).or_default().stalled += bytes as u64;
            }
            if weather.delayed {
                let (delay, ids) = inner.delay(&self.peer, &self.me);
                for id in ids {
                    inner.evidence.entry(id).or_default().delayed += bytes as u64;
                }
                release = Some(Instant::now() + delay).max(self.last_release);
            }
        }
        drop(inner);
        self.last_release = release.or(self.last_release);
        self.held_bytes += bytes;
        self.held.push_back(Held { release, what });
    }

    fn swallow(&mut self, what: &Arrived, weather: &Weather) {
        let bytes = match what {
            Arrived::Data(bytes) => bytes.len() as u64,
            Arrived::End | Arrived::Failed(_) => 1,
        };
        let mut inner = self.links.lock();
        for id in &weather.holes {
            inner.evidence.entry(*id).or_default().swallowed += bytes;
        }
        drop(inner);
        self.connection.change(State::Dead);
    }

    /// Gives the caller what may pass now. Returns `Pending` if the front has to wait for its time.
    fn release(
        &mut self,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
        throttle: Option<(u64, FaultId)>,
    ) -> Poll<Option<io::Result<()>>> {
        let Some(front) = self.held.front_mut() else { return Poll::Ready(None) };
        let slow = self.free_at.filter(|_| throttle.is_some());
        if let Some(at) = front.release.max(slow)
            && at > Instant::now()
        {
            self.waited |= slow.is_some_and(|slow| slow > Instant::now());
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(context));
        }
        let result = match &mut front.what {
            Arrived::Data(bytes) => {
                let mut n = bytes.len().min(to.remaining());
                if let Some((rate, id)) = throttle {
                    // At most a tenth of a second's worth is released at once, so that many ticks lie between two
                    // pieces.
                    n = n.min(usize::try_from(rate / 10).unwrap_or(usize::MAX).max(1));
                    self.free_at = Some(next_free(self.free_at, Instant::now()) + takes(n as u64, rate));
                    if std::mem::take(&mut self.waited) {
                        self.links.lock().evidence.entry(id).or_default().throttled += n as u64;
                    }
                }
                self.links.tap.passed(&self.peer, &self.me, &bytes[..n]);
                to.put_slice(&bytes[..n]);
                bytes.advance(n);
                self.held_bytes -= n;
                if bytes.is_empty() {
                    self.held.pop_front();
                }
                Ok(())
            }
            Arrived::End => Ok(()), // stays: every later read ends too
            Arrived::Failed(kind) => Err((*kind).into()),
        };
        Poll::Ready(Some(result))
    }
}

/// How late a timer may fire.
const TIMER_STEP: Duration = Duration::from_millis(1);

/// Returns the time from which the next piece counts. A timer that fired a little late must not make a slow reader
/// slower, and a reader that was idle must not catch up.
fn next_free(free_at: Option<Instant>, now: Instant) -> Instant {
    free_at.filter(|at| *at + TIMER_STEP >= now).unwrap_or(now)
}

/// Returns how long a slow reader takes for this many bytes.
fn takes(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos(u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX))
}

impl<S: AsyncRead + Unpin> LinkStream<S> {
    /// Takes one chunk from the stream.
    fn take(&mut self, context: &mut Context<'_>) -> Poll<Arrived> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut buffer = ReadBuf::new(&mut chunk);
        let arrived = match ready!(Pin::new(&mut self.inner).poll_read(context, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => Arrived::End,
            Ok(()) => Arrived::Data(Bytes::copy_from_slice(buffer.filled())),
            Err(error) => Arrived::Failed(error.kind()),
        };
        self.drained = !matches!(arrived, Arrived::Data(_));
        Poll::Ready(arrived)
    }

    /// Takes what has arrived and applies the faults of the link to it.
    fn gather(&mut self, context: &mut Context<'_>, weather: Option<&Weather>) {
        while !self.drained && self.held_bytes < HELD_BYTES_MAX {
            let Poll::Ready(arrived) = self.take(context) else { return };
            match weather {
                Some(weather) if !weather.holes.is_empty() => return self.swallow(&arrived, weather),
                _ => self.hold(arrived, weather),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LinkStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match this.fate(context) {
            State::Alive => {}
            State::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            State::Dead | State::Orphaned | State::Disowned => return Poll::Pending,
        }
        let weather = this.weather();
        if weather.is_none() && this.held.is_empty() && !this.drained {
            let before = to.filled().len();
            let result = ready!(Pin::new(&mut this.inner).poll_read(context, to));
            this.links.tap.passed(&this.peer, &this.me, &to.filled()[before..]);
            return Poll::Ready(result);
        }
        this.gather(context, weather.as_ref());
        if this.fate(context) != State::Alive || weather.as_ref().is_some_and(|weather| !weather.stalls.is_empty()) {
            return Poll::Pending;
        }
        let throttle = weather.as_ref().and_then(|weather| weather.throttle);
        match ready!(this.release(context, to, throttle)) {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending, // `gather` left a waker with the stream
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LinkStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.fate(context) {
            State::Alive => Pin::new(&mut self.inner).poll_write(context, bytes),
            State::Dead | State::Orphaned => Poll::Ready(Ok(bytes.len())), // into the void, as a kernel buffer would
            State::Disowned | State::Reset => {
                self.connection.change(State::Reset);
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.fate(context) {
            State::Alive => Pin::new(&mut self.inner).poll_flush(context),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.fate(context) {
            State::Alive => Pin::new(&mut self.inner).poll_shutdown(context),
            _ => Poll::Ready(Ok(())),
        }
    }
}
