//! Every unsafe call of the runtime, each behind a safe function: values over memory of ours, initializers, runs, arena figures and
//! aligned buffers.
//!
//! The safe interface of `ort` copies borrowed inputs when they are bound and cannot bind outputs of ours, so values and runs go to
//! the C interface directly; environment, session and session options stay `ort`'s own types.
#![expect(unsafe_code, reason = "the one place where the runtime calls C")]

mod pool;

use std::ffi::{CString, c_char};
use std::marker::PhantomData;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock};

use ort::AsPointer;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::SessionBuilder;
use ort::session::{RunOptions, Session};
use ort::sys;

pub(super) use pool::counted;
pub use pool::{CallMemory, Pool, PoolCounts};

use super::element::{self, Element};
use crate::diag::{Diagnostic, Result};
use crate::units::Bytes;
use crate::weights::{DType, WeightsFile};

const TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";

/// Switches the telemetry of ONNX Runtime off for this process. Call it first thing in `main`: the library reads the variable when
/// it is loaded, and a variable may be set only while no other thread reads the environment.
///
/// # Errors
/// `runtime/telemetry` if the variable is not set yet and this process has other threads already.
pub fn disable_telemetry() -> Result<()> {
    if telemetry_is_off() {
        return Ok(());
    }
    if thread_count().is_some_and(|n| n > 1) {
        return Err(Diagnostic::new(
            "runtime/telemetry",
            "the telemetry of ONNX Runtime was to be switched off after threads were started",
        )
        .into());
    }
    // SAFETY: this is the only thread (counted where the system tells, by contract elsewhere), so nobody reads the environment now.
    unsafe { std::env::set_var(TELEMETRY, "1") };
    Ok(())
}

/// Whether the variable that [`disable_telemetry`] sets is set.
pub fn telemetry_is_off() -> bool {
    std::env::var_os(TELEMETRY).is_some_and(|v| v == "1")
}

fn thread_count() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

/// Gives memory that the C library's heap holds and nobody uses back to the system. Making a session leaves much of that.
pub(super) fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: takes no pointer and may be called at any time (malloc_trim(3)).
        unsafe { malloc_trim(0) };
    }
}

/// The version of the C library that this process runs with; nothing if it is not glibc.
pub fn c_library_version() -> Option<(u32, u32)> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn gnu_get_libc_version() -> *const c_char;
        }
        // SAFETY: returns a string constant of the library (gnu_get_libc_version(3)).
        let version = unsafe { std::ffi::CStr::from_ptr(gnu_get_libc_version()) };
        let mut numbers = version.to_str().ok()?.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}

/// Loads a library whose names every library that is loaded later can be linked to, and never unloads it.
///
/// # Errors
/// The loader's words.
pub(super) fn load_for_others(path: &Path) -> std::result::Result<(), String> {
    #[cfg(unix)]
    {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        // SAFETY: the file is one of a published package whose hash was checked; what it runs when it is loaded is what any program that is
        // linked to it runs. It is never unloaded.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map_err(|e| e.to_string())?;
        std::mem::forget(library);
        Ok(())
    }
    #[cfg(not(unix))]
    Err(format!("`{}`: libraries are loaded ahead on Unix only", path.display()))
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Block([u8; 64]);

/// Bytes that start at a multiple of 64, which is what the kernels of every provider like best.
#[derive(Clone)]
pub struct AlignedBytes {
    blocks: Vec<Block>,
    len: usize,
}

impl AlignedBytes {
    /// `len` bytes, all zero.
    pub fn zeroed(len: usize) -> Self {
        Self { blocks: vec![Block([0; 64]); len.div_ceil(64)], len }
    }

    /// A copy of `bytes`.
    pub fn copied(bytes: &[u8]) -> Self {
        let mut out = Self::zeroed(bytes.len());
        out.copy_from_slice(bytes);
        out
    }
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBytes({} bytes)", self.len)
    }
}

impl std::ops::Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the blocks are `len.div_ceil(64) * 64 >= len` initialised bytes without padding.
        unsafe { std::slice::from_raw_parts(self.blocks.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.blocks.as_mut_ptr().cast(), self.len) }
    }
}

/// The elements that `bytes` are, or `None` if their length or address does not fit `T`.
pub(super) fn elements<T: Element>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: `Element` is sealed to plain numbers, for which every bit pattern is a value.
    let (head, body, tail) = unsafe { bytes.align_to::<T>() };
    (head.is_empty() && tail.is_empty()).then_some(body)
}

/// As [`elements`], for writing.
pub(super) fn elements_mut<T: Element>(bytes: &mut [u8]) -> Option<&mut [T]> {
    // SAFETY: as in `elements`; every value of `T` is a valid sequence of bytes.
    let (head, body, tail) = unsafe { bytes.align_to_mut::<T>() };
    (head.is_empty() && tail.is_empty()).then_some(body)
}

/// The bytes of `values`.
pub(super) fn bytes_of<T: Element>(values: &[T]) -> &[u8] {
    // SAFETY: `Element` is sealed to plain numbers without padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// As [`bytes_of`], for writing.
pub(super) fn bytes_of_mut<T: Element>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `bytes_of`; every sequence of bytes is values of `T`.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

fn check(status: sys::OrtStatusPtr) -> ort::Result<()> {
    // SAFETY: the status came from the C interface this moment and is handed over once.
    unsafe { ort::Error::result_from_status(status) }
}

/// A value of ONNX Runtime: a view of memory of ours for `'a`, or (`'static`) memory of its own.
pub(super) struct Value<'a> {
    ptr: NonNull<sys::OrtValue>,
    memory: PhantomData<&'a mut [u8]>,
}

// SAFETY: a value is a shape and a pointer to memory that is borrowed for `'a`; ONNX Runtime ties it to no thread.
unsafe impl Send for Value<'_> {}
// SAFETY: all that a shared reference allows is reading.
unsafe impl Sync for Value<'_> {}

impl<'a> Value<'a> {
    /// A tensor over `bytes`, which ONNX Runtime only reads: inputs and initializers are never written to.
    pub(super) fn view(bytes: &'a [u8], element: DType, shape: &[i64]) -> ort::Result<Self> {
        Self::over(bytes.as_ptr().cast_mut(), bytes.len(), element, shape)
    }

    /// A tensor over `bytes` that a run writes to.
    pub(super) fn view_mut(bytes: &'a mut [u8], element: DType, shape: &[i64]) -> ort::Result<Self> {
        Self::over(bytes.as_mut_ptr(), bytes.len(), element, shape)
    }

    fn over(data: *mut u8, len: usize, element: DType, shape: &[i64]) -> ort::Result<Self> {
        let info = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?;
        let mut out = ptr::null_mut();
        // SAFETY: `data` is `len` bytes; ONNX Runtime checks `len` against the shape and does not free the memory.
        check(unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                info.ptr(),
                data.cast(),
                len,
                shape.as_ptr(),
                shape.len(),
                element::to_onnx_runtime(element),
                &raw mut out,
            )
        })?;
        Self::owned(out)
    }

    fn owned(ptr: *mut sys::OrtValue) -> ort::Result<Self> {
        NonNull::new(ptr).map(|ptr| Self { ptr, memory: PhantomData }).ok_or_else(|| ort::Error::new("ONNX Runtime made no value"))
    }

    /// Type, shape and bytes of a tensor in host memory; `None` if it is something else.
    pub(super) fn tensor(&self) -> ort::Result<Option<Parts<'_>>> {
        let (api, value) = (ort::api(), self.ptr.as_ptr());
        let mut is_tensor = 0;
        // SAFETY: `value` is alive; out pointers are valid for the call.
        check(unsafe { (api.IsTensor)(value, &raw mut is_tensor) })?;
        if is_tensor == 0 {
            return Ok(None);
        }
        let (code, shape) = self.element_and_shape()?;
        let Some(element) = element::of_onnx_runtime(code) else { return Ok(None) };
        let (mut len, mut data) = (0, ptr::null_mut());
        // SAFETY: as above; the data lives as long as the value.
        check(unsafe { (api.GetTensorSizeInBytes)(value, &raw mut len) })?;
        check(unsafe { (api.GetTensorMutableData)(value, &raw mut data) })?;
        let bytes: &[u8] = match NonNull::new(data.cast::<u8>()) {
            // SAFETY: ONNX Runtime says that the tensor has `len` bytes at `data`.
            Some(data) if len > 0 => unsafe { std::slice::from_raw_parts(data.as_ptr(), len) },
            _ => &[],
        };
        Ok(Some(Parts { element, shape, bytes }))
    }

    fn element_and_shape(&self) -> ort::Result<(sys::ONNXTensorElementDataType, Vec<i64>)> {
        let api = ort::api();
        let mut info = ptr::null_mut();
        // SAFETY: `info` is made here, read while alive and released once.
        check(unsafe { (api.GetTensorTypeAndShape)(self.ptr.as_ptr(), &raw mut info) })?;
        let (mut element, mut rank) = (sys::ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, 0);
        let read = check(unsafe { (api.GetTensorElementType)(info, &raw mut element) })
            .and_then(|()| check(unsafe { (api.GetDimensionsCount)(info, &raw mut rank) }))
            .and_then(|()| {
                let mut shape = vec![0; rank];
                check(unsafe { (api.GetDimensions)(info, shape.as_mut_ptr(), rank) }).map(|()| shape)
            });
        unsafe { (api.ReleaseTensorTypeAndShapeInfo)(info) };
        Ok((element, read?))
    }
}

impl Drop for Value<'_> {
    fn drop(&mut self) {
        // SAFETY: the pointer is owned by this value alone.
        unsafe { (ort::api().ReleaseValue)(self.ptr.as_ptr()) };
    }
}

/// What a tensor is made of.
pub(super) struct Parts<'a> {
    /// The type of its elements.
    pub(super) element: DType,
    /// Its extents.
    pub(super) shape: Vec<i64>,
    /// Its elements in row-major order.
    pub(super) bytes: &'a [u8],
}

/// Where the bytes of a weight lie.
#[derive(Clone)]
pub(super) enum Storage {
    /// In a mapped file, from this offset.
    Mapped(Arc<WeightsFile>, u64),
    /// In a copy, because they lie in the file at an address that their type cannot be read from.
    Copied(Arc<AlignedBytes>),
}

impl Storage {
    fn bytes(&self, len: usize) -> Result<&[u8]> {
        match self {
            Self::Mapped(file, offset) => file.bytes(*offset, len as u64),
            Self::Copied(bytes) => Ok(&bytes[..len]),
        }
    }
}

/// A value over memory that it keeps alive.
pub(super) struct HeldValue {
    value: Value<'static>,
    storage: Storage,
    len: usize,
}

impl HeldValue {
    /// A tensor over the first `len` bytes of `storage`.
    pub(super) fn new(storage: Storage, len: usize, element: DType, shape: &[i64]) -> ort::Result<Self> {
        let bytes = storage.bytes(len).map_err(|d| ort::Error::new(d.message))?;
        let value = Value::view(bytes, element, shape)?;
        // SAFETY: the bytes do not move when `storage` (a counted reference) does, nobody writes to them, a file that is mapped stays
        // so as long as it lives, and the fields of this struct are dropped in order: the value first.
        let value = unsafe { std::mem::transmute::<Value<'_>, Value<'static>>(value) };
        Ok(Self { value, storage, len })
    }

    /// Lets the system take back the pages that were read so far. Reading goes on as before; they come back from the file.
    pub(super) fn release_pages(&self) {
        if let Storage::Mapped(file, offset) = &self.storage {
            file.release_pages(*offset, self.len as u64);
        }
    }
}

/// Makes the initializer `name` use the memory of `value` without copying it. The caller keeps `value` until after the session.
pub(super) fn add_initializer(builder: &mut SessionBuilder, name: &str, value: &HeldValue) -> ort::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: both pointers are alive during the call; the session borrows the value's memory, see above.
    check(unsafe { (ort::api().AddInitializer)(builder.ptr_mut(), name.as_ptr(), value.value.ptr.as_ptr()) })
}

/// Makes the initializer `name` a copy of `value` in the memory of whatever provider uses it. The caller keeps `value` until after
/// the session.
pub(super) fn add_copied_initializer(builder: &mut SessionBuilder, name: &str, value: &HeldValue) -> ort::Result<()> {
    let name = CString::new(name)?;
    let (names, values) = ([name.as_ptr()], [value.value.ptr.as_ptr().cast_const()]);
    // SAFETY: the arrays have one element each, and what they point to is alive during the call.
    check(unsafe { (ort::api().AddExternalInitializers)(builder.ptr_mut(), names.as_ptr(), values.as_ptr(), 1) })
}

/// Sets one of the session's configuration keys.
pub(super) fn set_config(builder: &mut SessionBuilder, key: &str, value: &str) -> ort::Result<()> {
    let (key, value) = (CString::new(key)?, CString::new(value)?);
    // SAFETY: both strings are alive during the call, which copies them.
    check(unsafe { (ort::api().AddSessionConfigEntry)(builder.ptr_mut(), key.as_ptr(), value.as_ptr()) })
}

/// Switches the CPU memory arena of a session on or off.
pub(super) fn set_arena(builder: &mut SessionBuilder, on: bool) -> ort::Result<()> {
    let api = ort::api();
    // SAFETY: the options are alive and borrowed for writing.
    check(unsafe { if on { (api.EnableCpuMemArena)(builder.ptr_mut()) } else { (api.DisableCpuMemArena)(builder.ptr_mut()) } })
}

/// Lets a session keep the buffer of a tensor that nobody reads any more for the next tensor of its shape, or give it back at once;
/// `false` if this library does not let itself be told, and then it keeps them.
///
/// Kept is what ONNX Runtime does by itself: it spares allocations, but the buffer counts from the first tensor in it to the last one, over
/// all the time between them. The small SVD decoder takes 473 MiB like this and 193 when buffers are given back, the U-net 145 and 34
/// (`docs/facts/ort.md` section 8). Its C interface has no function for the switch, though C++ and Python have: [`switch_of_reuse`].
pub(super) fn set_buffer_reuse(builder: &mut SessionBuilder, on: bool) -> ort::Result<bool> {
    let Some(at) = switch_of_reuse()? else { return Ok(on) };
    // SAFETY: the options are alive and borrowed for writing; the byte is the switch, see `switch_of_reuse`.
    unsafe { builder.ptr_mut().cast::<u8>().add(at).write_volatile(u8::from(on)) };
    Ok(true)
}

/// Where in its session options the library keeps the switch `enable_mem_reuse`, in bytes.
///
/// It stands between two switches that the C interface has: the memory pattern and the arena of the CPU. Both are told apart from the
/// other bytes by switching them: exactly one byte goes from 1 to 0. Only where these two are two bytes apart and what is between them
/// is on, as it is by default, is the place known.
fn switch_of_reuse() -> ort::Result<Option<usize>> {
    static PLACE: OnceLock<Option<usize>> = OnceLock::new();
    if let Some(known) = PLACE.get() {
        return Ok(*known);
    }
    let api = ort::api();
    let mut options = ptr::null_mut();
    // SAFETY: the options are made here, changed and read while alive, and released once. They are longer than what is read: the
    // texts and tables of an options object alone are.
    check(unsafe { (api.CreateSessionOptions)(&raw mut options) })?;
    let read = || -> [u8; OPTIONS_READ] { std::array::from_fn(|i| unsafe { options.cast::<u8>().add(i).read_volatile() }) };
    let fresh = read();
    let changed = check(unsafe { (api.DisableMemPattern)(options) }).and_then(|()| {
        let pattern = read();
        check(unsafe { (api.DisableCpuMemArena)(options) }).map(|()| (switched(&fresh, &pattern), switched(&pattern, &read())))
    });
    unsafe { (api.ReleaseSessionOptions)(options) };
    let place = match changed? {
        (Some(pattern), Some(arena)) if arena == pattern + 2 && fresh[pattern + 1] == 1 => Some(pattern + 1),
        _ => None,
    };
    Ok(*PLACE.get_or_init(|| place))
}

/// How much of the session options is looked at; their switches stand in front.
const OPTIONS_READ: usize = 96;

/// The one byte that went from 1 to 0.
fn switched(before: &[u8], after: &[u8]) -> Option<usize> {
    let mut changed = (0..before.len()).filter(|i| before[*i] != after[*i]);
    let at = changed.next()?;
    (changed.next().is_none() && (before[at], after[at]) == (1, 0)).then_some(at)
}

/// Runs a session. An output given as `None` is allocated by ONNX Runtime and returned in its place; the others are written in place.
/// Taking more than `limit` of the pool at once stops it.
pub(super) fn run(
    session: &mut Session,
    options: &RunOptions,
    limit: Option<Bytes>,
    inputs: &[(CString, Value<'_>)],
    outputs: &[(CString, Option<Value<'_>>)],
) -> (ort::Result<Vec<Option<Value<'static>>>>, CallMemory) {
    let input_names: Vec<*const c_char> = inputs.iter().map(|(name, _)| name.as_ptr()).collect();
    let input_values: Vec<*const sys::OrtValue> = inputs.iter().map(|(_, v)| v.ptr.as_ptr().cast_const()).collect();
    let output_names: Vec<*const c_char> = outputs.iter().map(|(name, _)| name.as_ptr()).collect();
    let mut values: Vec<*mut sys::OrtValue> = outputs.iter().map(|(_, v)| v.as_ref().map_or(ptr::null_mut(), |v| v.ptr.as_ptr())).collect();
    // SAFETY: every array has the length that is passed with it and is alive during the call; the session is borrowed for writing,
    // so this is its only run.
    let call = || {
        check(unsafe {
            (ort::api().Run)(
                session.ptr_mut(),
                options.ptr(),
                input_names.as_ptr(),
                input_values.as_ptr(),
                inputs.len(),
                output_names.as_ptr(),
                outputs.len(),
                values.as_mut_ptr(),
            )
        })
    };
    let (status, memory) = pool::within(options.ptr().cast_mut(), limit, call);
    // Taken over before the status is looked at, so that nothing leaks on failure.
    let fresh = outputs
        .iter()
        .zip(values)
        .map(|((_, given), ptr)| if given.is_none() { NonNull::new(ptr).map(|ptr| Value { ptr, memory: PhantomData }) } else { None });
    let fresh: Vec<Option<Value<'static>>> = fresh.collect();
    (status.map(|()| fresh), memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_bytes_are_aligned_and_keep_their_length() {
        for len in [0, 1, 63, 64, 65, 1000] {
            let bytes = AlignedBytes::copied(&vec![7; len]);
            assert_eq!((bytes.len(), bytes.iter().all(|b| *b == 7)), (len, true));
            assert_eq!(bytes.as_ptr().addr() % 64, 0);
        }
    }

    #[test]
    fn elements_need_their_alignment_and_a_whole_number() {
        let bytes = AlignedBytes::copied(bytes_of(&[1.0f32, 2.0, 3.0]));
        assert_eq!(elements::<f32>(&bytes), Some(&[1.0, 2.0, 3.0][..]));
        assert_eq!(elements::<f32>(&bytes[1..9]), None);
        assert_eq!(elements::<f32>(&bytes[..7]), None);
    }

    #[test]
    fn telemetry_is_off_in_tests() {
        assert!(telemetry_is_off(), ".cargo/config.toml sets it");
        disable_telemetry().unwrap();
    }
}
