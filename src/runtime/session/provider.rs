//! The execution providers of a session, and how ONNX Runtime is told.

use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ExecutionProviderDispatch};
use ort::memory::DeviceType;
use ort::session::builder::SessionBuilder;

use super::errors::{provider_error, session_error};
use super::{Runtime, SessionOptions};
use crate::diag::{Diagnostic, Result};
use crate::target::{self, Attach, DeviceKind, Provider, Target};

/// The value of ONNX Runtime's run key for giving arena memory back.
pub(super) fn shrink_key(providers: &[Provider]) -> String {
    on_device(providers).map_or_else(|| "cpu:0".into(), |index| format!("cpu:0;gpu:{index}"))
}

/// Do ONNX Runtime's own kernels run the sessions, in the memory that its allocator counts?
pub(super) fn in_host_memory(providers: &[Provider]) -> bool {
    providers.first().is_none_or(|first| target::row(&first.provider).is_ok_and(Target::is_builtin))
}

/// The index of the device, if the provider that comes first works on one of CUDA's.
fn on_device(providers: &[Provider]) -> Option<i32> {
    let first = providers.first()?;
    let attach = target::row(&first.provider).ok()?.attach;
    matches!(attach, Attach::Cuda | Attach::TensorRt).then(|| first.options.get("device_id").and_then(|d| d.parse().ok()).unwrap_or(0))
}

/// How a provider is asked for.
enum Asking {
    /// The way of those that are part of a build.
    Built(ExecutionProviderDispatch),
    /// By the devices that a plug-in has found, which have its name.
    Devices(&'static str, DeviceKind),
}

/// How to ask for a provider; nothing for the one that is part of every library. Without `error_on_failure` a provider that cannot be had
/// would silently be the CPU.
fn asking(runtime: &Runtime, provider: &Provider) -> Result<Option<Asking>> {
    let row = target::row(&provider.provider)?;
    runtime.provide(row)?;
    Ok(match row.attach {
        Attach::Builtin => None,
        Attach::Cuda => Some(Asking::Built(configured(ep::CUDA::default(), provider).build().error_on_failure())),
        Attach::TensorRt => Some(Asking::Built(configured(ep::TensorRT::default(), provider).build().error_on_failure())),
        Attach::Plugin(name) => Some(Asking::Devices(name, row.fits.kind)),
        Attach::Missing(what) => return Err(Box::new(Diagnostic::new("target/cannot-run", what))),
    })
}

/// The options as a plan records them; ONNX Runtime refuses a name that it does not know.
fn configured<E: ArbitrarilyConfigurableExecutionProvider>(ep: E, provider: &Provider) -> E {
    provider.options.iter().fold(ep, |ep, (name, value)| ep.with_arbitrary_config(name, value))
}

impl SessionOptions {
    pub(super) fn ready(&self, runtime: &Runtime) -> Result<SessionBuilder> {
        let mut asked = Vec::new();
        for provider in &self.providers {
            if let Some(asking) = asking(runtime, provider)? {
                asked.push((asking, provider));
            }
        }
        let mut builder = self.builder(runtime, !asked.is_empty()).map_err(|e| session_error(&e))?;
        if asked.is_empty() {
            return on_cpu(runtime, builder).map_err(|e| Box::new(provider_error(&self.providers, &e)));
        }
        for (asking, provider) in asked {
            builder = match asking {
                Asking::Built(dispatch) => builder.with_execution_providers([dispatch]).map_err(|e| provider_error(&self.providers, &e))?,
                Asking::Devices(name, kind) => self.on_devices(runtime, builder, (name, kind), provider)?,
            };
        }
        Ok(builder)
    }

    /// Asks for the first device of a kind that a plug-in has found.
    fn on_devices(
        &self,
        runtime: &Runtime,
        builder: SessionBuilder,
        (name, kind): (&str, DeviceKind),
        provider: &Provider,
    ) -> Result<SessionBuilder> {
        let wanted = if kind == DeviceKind::Cpu { DeviceType::CPU } else { DeviceType::GPU };
        let found = runtime.env.devices().find(|d| d.ep().is_ok_and(|e| e == name) && d.hardware_device().ty() == wanted);
        let Some(device) = found else {
            let row = target::row(&provider.provider)?;
            let d =
                Diagnostic::new("runtime/provider-missing", format!("{} was asked for and has found no device of its kind here", row.name));
            return Err(Box::new(d.help("`vidc doctor` shows what is here")));
        };
        let mut options = provider.options.clone();
        (target::row(&provider.provider)?.at_run)(&mut options, self.threads);
        // Which device it is, is said by the device.
        options.retain(|option, _| option != "device_type" && option != "device_id");
        let options: Vec<(String, String)> = options.into_iter().map(|(option, value)| (format!("{name}.{option}"), value)).collect();
        builder.with_devices([device], Some(&options)).map_err(|e| Box::new(provider_error(&self.providers, &e)))
    }
}

/// A new builder has the policy "most efficient device": once any plug-in provider is registered, a session that names no device silently
/// runs on the plug-in. Naming the CPU's device pins it.
fn on_cpu(runtime: &Runtime, builder: SessionBuilder) -> ort::Result<SessionBuilder> {
    let cpu = runtime.env.devices().filter(|d| d.ep().is_ok_and(|e| e == "CPUExecutionProvider"));
    Ok(builder.with_devices(cpu, None)?)
}
