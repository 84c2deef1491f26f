//! The execution providers of a session, and how ONNX Runtime is told.

use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ExecutionProviderDispatch};
use ort::session::builder::SessionBuilder;

use super::errors::{provider_error, session_error};
use super::{Runtime, SessionOptions};
use crate::diag::{Diagnostic, Result};
use crate::target::{self, Attach, Provider};

/// The value of ONNX Runtime's run key for giving arena memory back.
pub(super) fn shrink_key(providers: &[Provider]) -> String {
    on_device(providers).map_or_else(|| "cpu:0".into(), |index| format!("cpu:0;gpu:{index}"))
}

/// Do the sessions work in host memory?
pub(super) fn in_host_memory(providers: &[Provider]) -> bool {
    on_device(providers).is_none()
}

/// The index of the device, if the provider that comes first works on one.
fn on_device(providers: &[Provider]) -> Option<i32> {
    let first = providers.first()?;
    let attach = target::row(&first.provider).ok()?.attach;
    matches!(attach, Attach::Cuda | Attach::TensorRt).then(|| first.options.get("device_id").and_then(|d| d.parse().ok()).unwrap_or(0))
}

/// A provider as the crate takes it; nothing for the one that is part of every library. Without `error_on_failure` a provider that cannot
/// be had would silently be the CPU.
fn dispatch(provider: &Provider) -> Result<Option<ExecutionProviderDispatch>> {
    let row = target::row(&provider.provider)?;
    Ok(match row.attach {
        Attach::Builtin => None,
        Attach::Cuda => Some(configured(ep::CUDA::default(), provider).build().error_on_failure()),
        Attach::TensorRt => Some(configured(ep::TensorRT::default(), provider).build().error_on_failure()),
        Attach::Missing(what) => return Err(Box::new(Diagnostic::new("target/cannot-run", what))),
    })
}

/// The options as a plan records them; ONNX Runtime refuses a name that it does not know.
fn configured<E: ArbitrarilyConfigurableExecutionProvider>(ep: E, provider: &Provider) -> E {
    provider.options.iter().fold(ep, |ep, (name, value)| ep.with_arbitrary_config(name, value))
}

impl SessionOptions {
    pub(super) fn ready(&self, runtime: &Runtime) -> Result<SessionBuilder> {
        let providers: Result<Vec<Option<ExecutionProviderDispatch>>> = self.providers.iter().map(dispatch).collect();
        let providers: Vec<ExecutionProviderDispatch> = providers?.into_iter().flatten().collect();
        let builder = self.builder(runtime, !providers.is_empty()).map_err(|e| session_error(&e))?;
        let attached = if providers.is_empty() { on_cpu(runtime, builder) } else { with_providers(builder, providers) };
        attached.map_err(|e| Box::new(provider_error(&self.providers, &e)))
    }
}

fn with_providers(builder: SessionBuilder, providers: Vec<ExecutionProviderDispatch>) -> ort::Result<SessionBuilder> {
    Ok(builder.with_execution_providers(providers)?)
}

/// A new builder has the policy "most efficient device": once any plug-in provider is registered, a session that names no device silently
/// runs on the plug-in. Naming the CPU's device pins it.
fn on_cpu(runtime: &Runtime, builder: SessionBuilder) -> ort::Result<SessionBuilder> {
    let cpu = runtime.env.devices().filter(|d| d.ep().is_ok_and(|e| e == "CPUExecutionProvider"));
    Ok(builder.with_devices(cpu, None)?)
}
