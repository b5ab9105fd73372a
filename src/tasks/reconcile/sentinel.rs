//! The sentinel: a thread that looks at the VTEP map every few milliseconds, and calls for a pass when a byte differs from what the last pass
//! has left there.
//!
//! A look is one system call and a comparison, on a descriptor that the last pass has opened. Cilium may replace the map, so that the
//! descriptor is of a map that nobody uses: the sentinel looks at the pin, too, and never writes. It has a thread of its own because a turn of
//! the event loop costs several times as much as a look, and because the loop's timers are no more precise than a millisecond.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use vtep_core::datapath::look_pace::LookPace;

use crate::kernel::{map_image::MapImage, vtep_map::Look};

/// How often to check that the map is still pinned, in case that inotify has missed a change.
const PIN_EVERY: Duration = Duration::from_millis(100);
/// The thread's stack: two images of a map, and room for the standard library.
const STACK: usize = 64 << 10;

/// What a pass has left, and how often to look at it.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) look: Look,
    pub(super) pace: LookPace,
}

/// The handle of the thread, which ends with it.
pub(super) struct Sentinel {
    /// `None` once the handle is being dropped.
    watches: Option<Sender<Option<Watch>>>,
    /// Something has happened to the channel of watches.
    news: Arc<AtomicBool>,
    calls: mpsc::Receiver<()>,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.watches = None;
        self.news.store(true, Ordering::Release);
    }
}

impl Sentinel {
    /// # Errors
    ///
    /// The system has no room for another thread.
    pub(super) fn start() -> io::Result<Self> {
        let (watches, received) = channel();
        let (call, calls) = mpsc::channel(1);
        let news = Arc::new(AtomicBool::new(false));
        let look = {
            let news = Arc::clone(&news);
            move || keep_looking(&received, &news, &call)
        };
        thread::Builder::new().name("sentinel".to_owned()).stack_size(STACK).spawn(look)?;
        Ok(Self { watches: Some(watches), news, calls })
    }

    /// Looks at this from now on; with `None`, at nothing. Returns whether it looks.
    pub(super) fn watch(&self, watch: Option<Watch>) -> bool {
        let looks = watch.is_some();
        let is_received = self.watches.as_ref().is_some_and(|watches| watches.send(watch).is_ok());
        self.news.store(true, Ordering::Release);
        is_received && looks
    }
}

/// Waits for a call: something differs, and the sentinel looks at nothing until the next [`Sentinel::watch`]. `None` without a sentinel.
pub(super) async fn called(sentinel: Option<&mut Sentinel>) -> Option<()> {
    sentinel?.calls.recv().await
}

/// Looks until the handle is gone.
///
/// Where nothing else runs on a core, each turn begins with cold caches, and costs as much as the memory that it touches: so a usual turn
/// reads no clock and no channel.
fn keep_looking(watches: &Receiver<Option<Watch>>, news: &AtomicBool, call: &mpsc::Sender<()>) {
    let mut current: Option<Watch> = None;
    let mut image = MapImage::empty();
    let mut since_pin = Duration::ZERO;
    loop {
        if let Some(watch) = &current {
            let pause = watch.pace.next(Instant::now);
            thread::sleep(pause);
            since_pin += pause;
        } else {
            match watches.recv() {
                Ok(watch) => current = watch,
                Err(_) => return,
            }
        }
        // The load comes first, because an exchange would write each turn.
        while news.load(Ordering::Relaxed) && news.swap(false, Ordering::AcqRel) {
            match latest(watches) {
                Ok(Some(watch)) => current = watch,
                Ok(None) => {}
                Err(Gone) => return,
            }
        }
        let Some(watch) = &mut current else { continue };
        let is_pin_due = since_pin >= PIN_EVERY;
        if is_pin_due {
            since_pin = Duration::ZERO;
        }
        if needs_pass(&mut watch.look, &mut image, is_pin_due) {
            current = None;
            // A full channel has a call already.
            let _ = call.try_send(());
        }
    }
}

/// Nobody will send anything more.
struct Gone;

/// The last watch in the channel, if there is any.
fn latest(watches: &Receiver<Option<Watch>>) -> Result<Option<Option<Watch>>, Gone> {
    let mut latest = None;
    loop {
        match watches.try_recv() {
            Ok(watch) => latest = Some(watch),
            Err(TryRecvError::Empty) => return Ok(latest),
            Err(TryRecvError::Disconnected) => return Err(Gone),
        }
    }
}

/// A map that cannot be read needs a pass, too: it reports the error.
fn needs_pass(look: &mut Look, image: &mut MapImage, is_pin_due: bool) -> bool {
    look.is_unchanged(image) != Some(true) || (is_pin_due && !look.is_pinned())
}
