//! The element types of ONNX (`TensorProto.DataType`) as a table.

/// The field of a tensor that holds the values of a type when they are not raw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `float_data`.
    Float,
    /// `double_data`.
    Double,
    /// `int32_data`.
    Int32,
    /// `int64_data`.
    Int64,
    /// `uint64_data`.
    Uint64,
    /// `string_data`.
    Strings,
}

/// One element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementType {
    /// Number on the wire.
    pub number: i32,
    /// Name in the schema.
    pub name: &'static str,
    /// Bits an element when raw; 0 for strings, which have no raw form.
    pub bits: u64,
    /// Where values are that are not raw.
    pub field: Field,
    /// Entries of that field an element: 2 for complex numbers.
    pub entries: u64,
}

const fn row(number: i32, name: &'static str, bits: u64, field: Field) -> ElementType {
    ElementType { number, name, bits, field, entries: 1 }
}

/// Every type of the schema, by number.
pub const DTYPES: [ElementType; 26] = [
    row(1, "FLOAT", 32, Field::Float),
    row(2, "UINT8", 8, Field::Int32),
    row(3, "INT8", 8, Field::Int32),
    row(4, "UINT16", 16, Field::Int32),
    row(5, "INT16", 16, Field::Int32),
    row(6, "INT32", 32, Field::Int32),
    row(7, "INT64", 64, Field::Int64),
    row(8, "STRING", 0, Field::Strings),
    row(9, "BOOL", 8, Field::Int32),
    row(10, "FLOAT16", 16, Field::Int32),
    row(11, "DOUBLE", 64, Field::Double),
    row(12, "UINT32", 32, Field::Uint64),
    row(13, "UINT64", 64, Field::Uint64),
    ElementType { number: 14, name: "COMPLEX64", bits: 64, field: Field::Float, entries: 2 },
    ElementType { number: 15, name: "COMPLEX128", bits: 128, field: Field::Double, entries: 2 },
    row(16, "BFLOAT16", 16, Field::Int32),
    row(17, "FLOAT8E4M3FN", 8, Field::Int32),
    row(18, "FLOAT8E4M3FNUZ", 8, Field::Int32),
    row(19, "FLOAT8E5M2", 8, Field::Int32),
    row(20, "FLOAT8E5M2FNUZ", 8, Field::Int32),
    row(21, "UINT4", 4, Field::Int32),
    row(22, "INT4", 4, Field::Int32),
    row(23, "FLOAT4E2M1", 4, Field::Int32),
    row(24, "FLOAT8E8M0", 8, Field::Int32),
    row(25, "UINT2", 2, Field::Int32),
    row(26, "INT2", 2, Field::Int32),
];

/// The row of a number.
pub fn find(number: i32) -> Option<&'static ElementType> {
    let at = usize::try_from(number).ok()?.checked_sub(1)?;
    DTYPES.get(at)
}

impl ElementType {
    /// Bytes that `elements` take when raw: types below a byte are packed, the last byte is filled up.
    pub fn bytes(&self, elements: u64) -> Option<u64> {
        Some(elements.checked_mul(self.bits)?.div_ceil(8))
    }

    /// Entries of [`ElementType::field`] that `elements` take; types below a byte are packed there too, a byte an entry.
    pub fn field_entries(&self, elements: u64) -> Option<u64> {
        if self.bits > 0 && self.bits < 8 { self.bytes(elements) } else { elements.checked_mul(self.entries) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_indexed_by_number() {
        for row in &DTYPES {
            assert_eq!(find(row.number), Some(row));
        }
        assert!(find(0).is_none() && find(-1).is_none() && find(27).is_none());
    }

    #[test]
    fn small_types_are_packed() {
        assert_eq!(DTYPES[21].bytes(3), Some(2));
        assert_eq!(DTYPES[24].bytes(5), Some(2));
        assert_eq!(DTYPES[0].bytes(u64::MAX), None);
        assert_eq!(DTYPES[13].field_entries(3), Some(6));
    }
}
