//! Which published packages the libraries of a provider come in, and what of them is taken.
//!
//! A package is a Python wheel; nothing of Python is used. Every file that is taken out of one is pinned by size and sha256 in a table under
//! `wheels/`, which `tools/target/wheel_table.py` writes.

/// A published package of one version.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    /// What the Python package index calls it.
    pub name: &'static str,
    /// The version.
    pub version: &'static str,
    /// One for each platform that vidc fetches it for.
    pub builds: &'static [Build],
}

/// A package's wheel for one platform.
#[derive(Debug, PartialEq, Eq)]
pub struct Build {
    /// `std::env::consts::OS` of the machines that it is for.
    pub os: &'static str,
    /// `std::env::consts::ARCH` of the machines that it is for.
    pub arch: &'static str,
    /// The wheel's platform tag.
    pub platform: &'static str,
    /// Size of the wheel, bytes.
    pub download: u64,
    /// The files that are taken, one a line as `sha256 bytes path`, and links beside them as `link name target`.
    pub table: &'static str,
}

/// A file inside of a wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its path in the wheel.
    pub path: &'static str,
    /// sha256 in hexadecimal.
    pub sha256: &'static str,
    /// Size in bytes.
    pub bytes: u64,
}

impl Member {
    /// The name under which it is installed.
    pub fn file_name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

/// How the libraries of a provider come into a process.
#[derive(Debug)]
pub struct Software {
    /// What has to be fetched. The first holds [`Self::library`].
    pub packages: &'static [&'static Package],
    /// The library that ONNX Runtime loads as a plug-in, or the build of ONNX Runtime itself.
    pub library: Library,
    /// Libraries that must be in the process before it, in this order: it finds them by name alone, wherever they lie.
    pub load_first: &'static [&'static str],
}

/// The library that makes the provider known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// Registered with an ONNX Runtime of any build; the name of the file.
    Plugin(&'static str),
    /// A build of ONNX Runtime that has the provider, instead of the CPU build; the name of the file.
    Runtime(&'static str),
}

impl Library {
    /// The name of the file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Plugin(name) | Self::Runtime(name) => name,
        }
    }
}

impl Package {
    /// The build for a platform.
    pub fn build(&self, os: &str, arch: &str) -> Option<&'static Build> {
        self.builds.iter().find(|b| b.os == os && b.arch == arch)
    }

    /// The build for this machine.
    pub fn build_here(&self) -> Option<&'static Build> {
        self.build(std::env::consts::OS, std::env::consts::ARCH)
    }
}

impl Build {
    /// The files that are taken.
    pub fn members(&self) -> impl Iterator<Item = Member> {
        self.table.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let (sha256, bytes, path) = (words.next()?, words.next()?, words.next()?);
            (sha256 != "link").then(|| Some(Member { path, sha256, bytes: bytes.parse().ok()? }))?
        })
    }

    /// Links beside the files: the name, and the file that it stands for.
    pub fn links(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.table.lines().filter_map(|line| line.strip_prefix("link ")?.split_once(' '))
    }

    /// Eight digits that are others for another build: those of its first file's hash.
    pub fn digest(&self) -> &'static str {
        self.table.get(..8).unwrap_or(self.table)
    }
}

impl Software {
    /// What has to be fetched for a platform, bytes; nothing if a package has no build for it.
    pub fn download(&self, os: &str, arch: &str) -> Option<u64> {
        self.packages.iter().map(|p| Some(p.build(os, arch)?.download)).sum()
    }
}

macro_rules! wheel {
    ($package:literal, $os:literal, $arch:literal, $platform:literal, $bytes:literal) => {
        $crate::target::package::Build {
            os: $os,
            arch: $arch,
            platform: $platform,
            download: $bytes,
            table: include_str!(concat!("wheels/", $package, "-", $os, "-", $arch, ".txt")),
        }
    };
}
pub(super) use wheel;

/// ONNX Runtime with its CPU provider. The library does not depend on the version of Python that the wheel is for.
pub static ONNXRUNTIME: Package = Package {
    name: "onnxruntime",
    version: "1.31.1",
    builds: &[
        wheel!("onnxruntime", "linux", "x86_64", "manylinux_2_28_x86_64", 23_760_988),
        wheel!("onnxruntime", "linux", "aarch64", "manylinux_2_28_aarch64", 21_420_803),
        wheel!("onnxruntime", "macos", "aarch64", "macosx_14_0_arm64", 20_882_125),
    ],
};
