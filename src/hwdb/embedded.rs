//! The profiles of `hwdb/`, embedded as text. The table is written by its own test: `VIDC_UPDATE=1 cargo test --lib hwdb::embedded`.

/// Key and text, sorted by key.
pub(super) const PROFILES: &[(&str, &str)] = &[
    ("a10", include_str!("../../hwdb/a10.yaml")),
    ("a100-pcie-40gb", include_str!("../../hwdb/a100-pcie-40gb.yaml")),
    ("a100-pcie-80gb", include_str!("../../hwdb/a100-pcie-80gb.yaml")),
    ("a100-sxm-40gb", include_str!("../../hwdb/a100-sxm-40gb.yaml")),
    ("a100-sxm-80gb", include_str!("../../hwdb/a100-sxm-80gb.yaml")),
    ("a10g", include_str!("../../hwdb/a10g.yaml")),
    ("a6000", include_str!("../../hwdb/a6000.yaml")),
    ("a800-sxm-80gb", include_str!("../../hwdb/a800-sxm-80gb.yaml")),
    ("arc-a770-16gb", include_str!("../../hwdb/arc-a770-16gb.yaml")),
    ("b200", include_str!("../../hwdb/b200.yaml")),
    ("cpu-avx2", include_str!("../../hwdb/cpu-avx2.yaml")),
    ("cpu-avx512", include_str!("../../hwdb/cpu-avx512.yaml")),
    ("gtx1080ti", include_str!("../../hwdb/gtx1080ti.yaml")),
    ("h100-nvl", include_str!("../../hwdb/h100-nvl.yaml")),
    ("h100-pcie", include_str!("../../hwdb/h100-pcie.yaml")),
    ("h100-sxm", include_str!("../../hwdb/h100-sxm.yaml")),
    ("h20", include_str!("../../hwdb/h20.yaml")),
    ("h200-sxm", include_str!("../../hwdb/h200-sxm.yaml")),
    ("h800-sxm", include_str!("../../hwdb/h800-sxm.yaml")),
    ("jetson-agx-orin-64gb", include_str!("../../hwdb/jetson-agx-orin-64gb.yaml")),
    ("jetson-orin-nano-8gb-super", include_str!("../../hwdb/jetson-orin-nano-8gb-super.yaml")),
    ("jetson-orin-nx-16gb", include_str!("../../hwdb/jetson-orin-nx-16gb.yaml")),
    ("l20", include_str!("../../hwdb/l20.yaml")),
    ("l4", include_str!("../../hwdb/l4.yaml")),
    ("l40s", include_str!("../../hwdb/l40s.yaml")),
    ("m1", include_str!("../../hwdb/m1.yaml")),
    ("m1-max", include_str!("../../hwdb/m1-max.yaml")),
    ("m1-pro", include_str!("../../hwdb/m1-pro.yaml")),
    ("m2", include_str!("../../hwdb/m2.yaml")),
    ("m2-max", include_str!("../../hwdb/m2-max.yaml")),
    ("m2-pro", include_str!("../../hwdb/m2-pro.yaml")),
    ("m2-ultra", include_str!("../../hwdb/m2-ultra.yaml")),
    ("m3", include_str!("../../hwdb/m3.yaml")),
    ("m3-max", include_str!("../../hwdb/m3-max.yaml")),
    ("m3-pro", include_str!("../../hwdb/m3-pro.yaml")),
    ("m4", include_str!("../../hwdb/m4.yaml")),
    ("m4-max", include_str!("../../hwdb/m4-max.yaml")),
    ("m4-pro", include_str!("../../hwdb/m4-pro.yaml")),
    ("mi250x", include_str!("../../hwdb/mi250x.yaml")),
    ("mi300x", include_str!("../../hwdb/mi300x.yaml")),
    ("p100-pcie", include_str!("../../hwdb/p100-pcie.yaml")),
    ("p4", include_str!("../../hwdb/p4.yaml")),
    ("rtx2060", include_str!("../../hwdb/rtx2060.yaml")),
    ("rtx2080ti", include_str!("../../hwdb/rtx2080ti.yaml")),
    ("rtx3060-12gb", include_str!("../../hwdb/rtx3060-12gb.yaml")),
    ("rtx3070", include_str!("../../hwdb/rtx3070.yaml")),
    ("rtx3080-10gb", include_str!("../../hwdb/rtx3080-10gb.yaml")),
    ("rtx3080-12gb", include_str!("../../hwdb/rtx3080-12gb.yaml")),
    ("rtx3090", include_str!("../../hwdb/rtx3090.yaml")),
    ("rtx3090ti", include_str!("../../hwdb/rtx3090ti.yaml")),
    ("rtx4060", include_str!("../../hwdb/rtx4060.yaml")),
    ("rtx4060ti-16gb", include_str!("../../hwdb/rtx4060ti-16gb.yaml")),
    ("rtx4070", include_str!("../../hwdb/rtx4070.yaml")),
    ("rtx4070ti", include_str!("../../hwdb/rtx4070ti.yaml")),
    ("rtx4070ti-super", include_str!("../../hwdb/rtx4070ti-super.yaml")),
    ("rtx4080", include_str!("../../hwdb/rtx4080.yaml")),
    ("rtx4080-super", include_str!("../../hwdb/rtx4080-super.yaml")),
    ("rtx4090", include_str!("../../hwdb/rtx4090.yaml")),
    ("rtx5070", include_str!("../../hwdb/rtx5070.yaml")),
    ("rtx5070ti", include_str!("../../hwdb/rtx5070ti.yaml")),
    ("rtx5080", include_str!("../../hwdb/rtx5080.yaml")),
    ("rtx5090", include_str!("../../hwdb/rtx5090.yaml")),
    ("rtx6000-ada", include_str!("../../hwdb/rtx6000-ada.yaml")),
    ("rx7800xt", include_str!("../../hwdb/rx7800xt.yaml")),
    ("rx7900xt", include_str!("../../hwdb/rx7900xt.yaml")),
    ("rx7900xtx", include_str!("../../hwdb/rx7900xtx.yaml")),
    ("rx9070xt", include_str!("../../hwdb/rx9070xt.yaml")),
    ("t4", include_str!("../../hwdb/t4.yaml")),
    ("v100-pcie", include_str!("../../hwdb/v100-pcie.yaml")),
    ("v100-sxm2", include_str!("../../hwdb/v100-sxm2.yaml")),
    ("x86-cpu-2core", include_str!("../../hwdb/x86-cpu-2core.yaml")),
    ("x86-cpu-8core-avx2", include_str!("../../hwdb/x86-cpu-8core-avx2.yaml")),
];

/// The text of `key`.
pub(super) fn text(key: &str) -> Option<&'static str> {
    PROFILES.binary_search_by_key(&key, |row| row.0).ok().map(|i| PROFILES[i].1)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    #[test]
    fn the_table_lists_the_folder() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let names = std::fs::read_dir(root.join("hwdb")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut keys: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(".yaml")?.to_owned())).collect();
        keys.sort_unstable();
        let have: Vec<&str> = super::PROFILES.iter().map(|row| row.0).collect();
        if have == keys {
            return;
        }
        assert!(std::env::var_os("VIDC_UPDATE").is_some(), "src/hwdb/embedded.rs is stale; VIDC_UPDATE=1 rewrites it");
        let mut rows = String::new();
        for key in &keys {
            writeln!(rows, "    (\"{key}\", include_str!(\"../../hwdb/{key}.yaml\")),").unwrap();
        }
        let path = root.join("src/hwdb/embedded.rs");
        let text = std::fs::read_to_string(&path).unwrap();
        let (start, end) = (text.find("= &[\n").unwrap() + 5, text.find("];\n").unwrap());
        std::fs::write(&path, format!("{}{rows}{}", &text[..start], &text[end..])).unwrap();
        panic!("src/hwdb/embedded.rs was rewritten: build again");
    }
}
