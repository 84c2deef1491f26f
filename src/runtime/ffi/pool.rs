//! The memory of runs on the CPU: an allocator of ours that ONNX Runtime's kernels take tensors and scratch from.
//!
//! ONNX Runtime's own arena holds more than it hands out, in regions that double, and never gives back; the C library's heap keeps
//! what is smaller than 32 MiB. Neither lets the peak of a run be foretold. This one takes everything large from one range of
//! addresses ([`Space`]), so that what is resident is the most that buffers had at once, and counts every byte.
//!
//! A limit cannot be kept by refusing memory: kernels do not check what they get. So the run that goes beyond it is told to stop,
//! which it does before the next node, and says `runtime/out-of-memory`.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::{MmapMut, MmapOptions, UncheckedAdvice};
use ort::AsPointer;
use ort::environment::Environment;
use ort::sys;
use serde::{Deserialize, Serialize};

use super::super::space::{self, Space};
use super::check;
use crate::units::Bytes;

/// What is smaller comes from the C library: shapes, scalars, statistics, which would only cut the range into pieces.
const LEAST: usize = 64 << 10;
/// Alignment of what comes from the C library.
const ALIGN: usize = 64;
/// Addresses to ask the system for: more than any machine has memory, since an address costs nothing until something is written there.
const RANGE: usize = 1 << 42;
/// The least worth having.
const LEAST_RANGE: usize = 1 << 34;
thread_local! {
    /// What the call of ONNX Runtime that this thread is in has taken.
    static CALL: Cell<Call> = const { Cell::new(Call { options: ptr::null_mut(), limit: None, memory: CallMemory::NONE }) };
}

#[derive(Clone, Copy)]
struct Call {
    /// The options of the run, to stop it by.
    options: *mut sys::OrtRunOptions,
    /// How much it may have in use at once.
    limit: Option<Bytes>,
    memory: CallMemory,
}

/// What one call of ONNX Runtime took on the thread that made it. Kernels take their memory there, whatever threads they work with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallMemory {
    /// Tensors and scratch in use now, bytes; below 0 if what an earlier call took was given back.
    in_use: i64,
    /// The most of that at once.
    pub most: Bytes,
    /// Kept for as long as the session lives: weights in the layout of kernels.
    pub kept: Bytes,
    /// Did it go beyond the limit?
    pub overrun: bool,
}

impl CallMemory {
    const NONE: Self = Self { in_use: 0, most: Bytes(0), kept: Bytes(0), overrun: false };
}

/// What a pool counts over all calls, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolCounts {
    /// In use by tensors and scratch now.
    pub in_use: Bytes,
    /// The most in use at once so far.
    pub most: Bytes,
    /// The most memory that the range had at once.
    pub backed: Bytes,
    /// Kept by sessions.
    pub kept: Bytes,
}

/// The allocator. ONNX Runtime knows it by the address of its first field.
#[repr(C)]
pub struct Pool {
    raw: sys::OrtAllocator,
    info: *mut sys::OrtMemoryInfo,
    range: Option<MmapMut>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

// SAFETY: all that changes is behind the mutex; `info` is never written to after it was made.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

#[derive(Default)]
struct State {
    space: Space,
    /// Lengths of what the C library gave, by address.
    apart: HashMap<usize, usize>,
    /// Of these, what sessions keep.
    kept: HashMap<usize, usize>,
    counts: PoolCounts,
}

impl State {
    /// `bytes` more are in use; does the call go beyond its limit?
    fn count(&mut self, bytes: usize) -> bool {
        let bytes = Bytes(bytes as u64);
        self.counts.in_use += bytes;
        self.counts.most = self.counts.most.max(self.counts.in_use);
        let mut call = CALL.get();
        call.memory.in_use += bytes.0.cast_signed();
        let in_use = Bytes(u64::try_from(call.memory.in_use).unwrap_or(0));
        call.memory.most = call.memory.most.max(in_use);
        let overrun = call.limit.is_some_and(|limit| in_use > limit);
        call.memory.overrun |= overrun;
        CALL.set(call);
        overrun
    }

    fn discount(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.counts.in_use = Bytes(self.counts.in_use.0.saturating_sub(bytes));
        let mut call = CALL.get();
        call.memory.in_use -= bytes.cast_signed();
        CALL.set(call);
    }
}

impl Pool {
    /// Makes the pool of an environment; it lives as long as the process, as the environment does.
    pub(in crate::runtime) fn register(env: &Environment) -> ort::Result<&'static Self> {
        let api = ort::api();
        // SAFETY: a structure of plain data.
        let mut raw = unsafe { sys::OrtAllocator::default() };
        raw.Alloc = Some(take);
        raw.Free = Some(give_back);
        raw.Info = Some(info);
        raw.Reserve = Some(keep);
        let mut info = ptr::null_mut();
        // SAFETY: the name outlives the call, the out pointer is valid for it. The information is never released: it lives like the pool.
        check(unsafe {
            (api.CreateMemoryInfo)(
                c"Cpu".as_ptr(),
                sys::OrtAllocatorType::OrtDeviceAllocator,
                0,
                sys::OrtMemType::OrtMemTypeDefault,
                &raw mut info,
            )
        })?;
        let sizes = std::iter::successors(Some(RANGE), |n| Some(n / 2)).take_while(|n| *n >= LEAST_RANGE);
        let range = sizes.into_iter().find_map(|len| MmapOptions::new().len(len).no_reserve_swap().map_anon().ok());
        let pool = Box::leak(Box::new(Self { raw, info, range, state: Mutex::default() }));
        // SAFETY: the pool is never moved or dropped, and its first field is the structure that is asked for.
        check(unsafe { (api.RegisterAllocator)(env.ptr().cast_mut(), ptr::from_mut(pool).cast()) })?;
        Ok(pool)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it counts.
    pub fn counts(&self) -> PoolCounts {
        self.state().counts
    }

    /// Gives the memory of all gaps back to the system.
    pub fn shrink(&self) {
        let mut state = self.state();
        let lost = state.space.shrink();
        self.give_up(&lost);
    }

    /// Gives the memory of stretches without buffers back to the system; to be called under the lock.
    fn give_up(&self, stretches: &[(usize, usize)]) {
        let Some(range) = &self.range else { return };
        for (start, length) in stretches {
            // SAFETY: nobody has a buffer there, and the lock that the caller holds keeps it so.
            let advised = unsafe { range.unchecked_advise_range(UncheckedAdvice::DontNeed, *start, *length) };
            if let Err(e) = advised {
                tracing::debug!("memory was not given back: {e}");
            }
        }
    }

    fn base(&self) -> usize {
        self.range.as_ref().map_or(0, |r| r.as_ptr().addr())
    }

    fn take(&self, bytes: usize) -> *mut c_void {
        let mut state = self.state();
        let range = self.range.as_ref().filter(|range| bytes >= LEAST && state.space.end() + bytes <= range.len() / 2);
        let (out, counted) = match range {
            Some(range) => {
                let (start, lost) = state.space.take(bytes);
                self.give_up(&lost);
                (range.as_ptr().wrapping_add(start).cast_mut().cast(), space::rounded(bytes))
            }
            None => (state.take_apart(bytes), bytes),
        };
        let overrun = state.count(counted);
        state.counts.backed = Bytes(state.space.most_backed() as u64);
        drop(state);
        if overrun {
            stop_run();
        }
        out
    }

    fn keep(&self, bytes: usize) -> *mut c_void {
        let mut state = self.state();
        let out = state.take_apart(bytes);
        if state.apart.remove(&out.addr()).is_some() {
            state.kept.insert(out.addr(), bytes);
            state.counts.kept += Bytes(bytes as u64);
            let mut call = CALL.get();
            call.memory.kept += Bytes(bytes as u64);
            CALL.set(call);
        }
        out
    }

    fn give_back(&self, p: *mut c_void) {
        let mut state = self.state();
        if let Some(bytes) = state.kept.remove(&p.addr()) {
            state.counts.kept = Bytes(state.counts.kept.0.saturating_sub(bytes as u64));
            to_system(p, bytes);
        } else if let Some(bytes) = state.apart.remove(&p.addr()) {
            state.discount(bytes);
            to_system(p, bytes);
        } else if let Some(bytes) = p.addr().checked_sub(self.base()).and_then(|start| state.space.give_back(start)) {
            state.discount(bytes);
        }
    }
}

impl State {
    fn take_apart(&mut self, bytes: usize) -> *mut c_void {
        let Ok(layout) = Layout::from_size_align(bytes, ALIGN) else { return ptr::null_mut() };
        // SAFETY: the size is not 0.
        let out: *mut c_void = unsafe { alloc(layout) }.cast();
        if !out.is_null() {
            self.apart.insert(out.addr(), bytes);
        }
        out
    }
}

fn to_system(p: *mut c_void, bytes: usize) {
    if let Ok(layout) = Layout::from_size_align(bytes, ALIGN) {
        // SAFETY: it came from `take_apart` with this size and is given back once: its entry was taken out.
        unsafe { dealloc(p.cast(), layout) };
    }
}

/// Stops the run of this thread before its next node.
fn stop_run() {
    let options = CALL.get().options;
    if !options.is_null() {
        // SAFETY: the pointer is there only in `within`: the options live as long as the call.
        let stopped = check(unsafe { (ort::api().RunOptionsSetTerminate)(options) });
        if let Err(e) = stopped {
            tracing::warn!("a run beyond its memory could not be stopped: {e}");
        }
    }
}

/// What `f` gives, with the memory that it took on this thread.
pub(in crate::runtime) fn counted<T>(f: impl FnOnce() -> T) -> (T, CallMemory) {
    within(ptr::null_mut(), None, f)
}

/// The same for a run: taking more than `limit` at once stops the run that has these options.
pub(super) fn within<T>(options: *mut sys::OrtRunOptions, limit: Option<Bytes>, f: impl FnOnce() -> T) -> (T, CallMemory) {
    let outer = CALL.replace(Call { options, limit, memory: CallMemory::NONE });
    let out = f();
    (out, CALL.replace(outer).memory)
}

fn pool<'a>(this: *const sys::OrtAllocator) -> &'a Pool {
    // SAFETY: ONNX Runtime hands back the pointer that was registered, which is that of a pool that is never dropped.
    unsafe { &*this.cast::<Pool>() }
}

unsafe extern "system" fn take(this: *mut sys::OrtAllocator, size: usize) -> *mut c_void {
    if size == 0 { ptr::null_mut() } else { pool(this).take(size) }
}

unsafe extern "system" fn keep(this: *const sys::OrtAllocator, size: usize) -> *mut c_void {
    if size == 0 { ptr::null_mut() } else { pool(this).keep(size) }
}

unsafe extern "system" fn give_back(this: *mut sys::OrtAllocator, p: *mut c_void) {
    if !p.is_null() {
        pool(this).give_back(p);
    }
}

unsafe extern "system" fn info(this: *const sys::OrtAllocator) -> *const sys::OrtMemoryInfo {
    pool(this).info
}
