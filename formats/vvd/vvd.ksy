# The VVD format, version 1.0, for Kaitai Struct (https://kaitai.io). SPEC.md says what the structures mean and when
# they are valid; this file says where each byte is.
#
# Kaitai Struct computes no CRC32C. So this description takes the header copy with the higher generation, where a
# reader takes the one with the higher generation among those whose checksum matches; and it shows pages as they are
# in the file, where a reader of an image that was not closed sees the last transaction of the journal over them.
#
# A u8 is exact up to 2^53 in JavaScript; offsets and lengths never pass that. Words of flags are u4, and the place of
# a block, which shares its 64 bits with the kind, is two u4.
#
# Only block mappings, block sequences and scalars on one line are used: the test that compiles this file reads no
# other YAML.
meta:
  id: vvd
  title: VIMS virtual disk
  file-extension: vvd
  license: Apache-2.0
  ks-version: 0.10
  endian: le
  bit-endian: le
doc: A virtual disk in blocks, with a two-level allocation table, a journal of metadata, and parents known by identity.
instances:
  page_size:
    value: 4096
  header_copies:
    pos: 0
    type: header
    size: page_size
    repeat: expr
    repeat-expr: 2
    doc: Generation g is written to copy g mod 2.
  header:
    value: "header_copies[0].generation > header_copies[1].generation ? header_copies[0] : header_copies[1]"
    doc: Where both copies are whole.
  block_size:
    value: "1 << header.block_shift"
  attributes:
    pos: header.attributes_offset + header.attributes_slot * header.attributes_slot_pages * page_size
    type: attribute_list
    size: header.attributes_length
  journal_slot_0:
    pos: header.journal_offset
    type: journal_slot
    size: header.journal_slot_pages * page_size
    if: header.journal_offset + header.journal_slot_pages * page_size <= _io.size
    doc: Transactions with an even sequence.
  journal_slot_1:
    pos: header.journal_offset + header.journal_slot_pages * page_size
    type: journal_slot
    size: header.journal_slot_pages * page_size
    if: header.journal_offset + 2 * header.journal_slot_pages * page_size <= _io.size
    doc: Transactions with an odd sequence.
  space_list:
    pos: header.space_offset
    type: space_list
    size: header.space_pages * page_size
  directory:
    pos: header.directory_offset
    type: directory_slot(_index)
    size: page_size
    repeat: expr
    repeat-expr: header.directory_pages
  checksums:
    pos: header.checksum_offset
    type: checksum_slot
    size: page_size
    repeat: expr
    repeat-expr: header.checksum_pages
    if: header.checksum_state == 1
    doc: Of a sealed layer.
types:
  uuid:
    doc: In the byte order of RFC 4122.
    seq:
      - id: bytes
        size: 16
  header:
    doc: One of the two copies.
    seq:
      - id: magic
        size: 8
        type: str
        encoding: ASCII
        doc: VVDIMAGE
      - id: version_major
        type: u2
      - id: version_minor
        type: u2
      - id: header_length
        type: u4
      - id: generation
        type: u8
      - id: incompatible
        type: u4
        doc: bit 0 sealed, bit 1 compressed blocks
      - id: read_only_compatible
        type: u4
      - id: compatible
        type: u4
      - id: state
        type: u4
        enum: state
      - id: disk_uuid
        type: uuid
      - id: content_id
        type: uuid
      - id: parent_uuid
        type: uuid
      - id: parent_content_id
        type: uuid
      - id: virtual_size
        type: u8
      - id: block_shift
        type: u4
      - id: compression
        type: u4
        enum: compression
      - id: provisioning
        type: u4
        enum: provisioning
      - id: intent
        type: u4
        enum: intent
      - id: intent_size
        type: u8
      - id: sequence
        type: u8
      - id: attributes_offset
        type: u8
      - id: attributes_slot_pages
        type: u4
      - id: attributes_slot
        type: u4
      - id: attributes_length
        type: u4
      - id: attributes_crc
        type: u4
      - id: journal_offset
        type: u8
      - id: journal_slot_pages
        type: u4
      - id: space_pages
        type: u4
      - id: space_offset
        type: u8
      - id: directory_offset
        type: u8
      - id: directory_pages
        type: u4
      - id: directory_capacity
        type: u4
      - id: data_offset
        type: u8
      - id: checksum_offset
        type: u8
      - id: checksum_pages
        type: u4
      - id: checksum_state
        type: u4
      - id: created_ms
        type: u8
      - id: sealed_ms
        type: u8
      - id: parent_format
        size: 16
        type: str
        encoding: ASCII
        terminator: 0
      - id: parent_path_length
        type: u4
      - id: snapshot_name_length
        type: u4
      - id: intent_name_length
        type: u4
      - id: group_path_length
        type: u4
      - id: parent_path
        type: text_field(parent_path_length)
        size: 1024
      - id: snapshot_name
        type: text_field(snapshot_name_length)
        size: 256
      - id: intent_name
        type: text_field(intent_name_length)
        size: 256
      - id: group_path
        type: text_field(group_path_length)
        size: 1024
      - id: feature_names
        type: feature_name
        repeat: expr
        repeat-expr: 16
      - id: reserved
        size: 740
      - id: crc
        type: u4
  text_field:
    params:
      - id: length
        type: u4
    seq:
      - id: text
        size: length
        type: str
        encoding: UTF-8
      - id: padding
        size-eos: true
  feature_name:
    seq:
      - id: set
        type: u1
        doc: 0 incompatible, 1 read-only-compatible, 2 compatible
      - id: bit
        type: u1
      - id: name
        size: 30
        type: str
        encoding: ASCII
        terminator: 0
  attribute_list:
    seq:
      - id: count
        type: u4
      - id: attributes
        type: attribute
        repeat: expr
        repeat-expr: count
  attribute:
    seq:
      - id: key_length
        type: u2
      - id: type
        type: u1
        enum: attribute_type
      - id: reserved
        type: u1
      - id: value_length
        type: u4
      - id: key
        size: key_length
        type: str
        encoding: UTF-8
      - id: value
        size: value_length
        type: str
        encoding: UTF-8
  page_header:
    seq:
      - id: magic
        type: u4
        doc: VVDP; a number here, for the space of a page that was never written is zero
      - id: type
        type: u2
        enum: page_type
      - id: version
        type: u2
      - id: index
        type: u8
      - id: disk_uuid
        type: uuid
      - id: generation
        type: u8
      - id: place
        type: u8
      - id: reserved
        size: 12
      - id: crc
        type: u4
    instances:
      is_page:
        value: magic == 0x50445656
  page:
    doc: Any page that has a home, as a transaction holds it.
    seq:
      - id: header
        type: page_header
      - id: body
        size-eos: true
        type:
          switch-on: header.type
          cases:
            page_type::directory: directory_body
            page_type::table: table_body
    -webide-representation: "{header.type}"
  journal_slot:
    seq:
      - id: header
        type: page_header
      - id: head
        type: transaction_head
      - id: homes
        type: u8
        repeat: expr
        repeat-expr: "is_filled ? head.image_count : 0"
        doc: Where each image belongs.
    instances:
      is_filled:
        value: header.is_page and head.head_pages + head.image_count <= _root.header.journal_slot_pages
        doc: Whether the slot can hold what its head says. Its checksum says whether it does.
      images:
        pos: head.head_pages * _root.page_size
        type: page
        size: _root.page_size
        repeat: expr
        repeat-expr: "is_filled ? head.image_count : 0"
  transaction_head:
    seq:
      - id: image_count
        type: u4
      - id: head_pages
        type: u4
      - id: reserved
        type: u8
  space_list:
    seq:
      - id: header
        type: page_header
      - id: head
        type: space_head
      - id: first_extents
        type: free_extent
        repeat: expr
        repeat-expr: "head.extent_count < 90 ? head.extent_count : 90"
    instances:
      more_pages:
        pos: _root.page_size
        type: "space_page(head.extent_count - 90 - 252 * _index)"
        size: _root.page_size
        repeat: expr
        repeat-expr: "head.extent_count <= 90 ? 0 : (head.extent_count - 90 + 251) / 252"
  space_head:
    seq:
      - id: space_end
        type: u8
      - id: metadata_next
        type: u8
      - id: metadata_end
        type: u8
      - id: extent_count
        type: u4
      - id: reserved
        type: u4
      - id: directories_written
        type: u1
        repeat: expr
        repeat-expr: 2560
  space_page:
    params:
      - id: left
        type: s4
        doc: Extents of the list that are in this page and the ones behind it.
    seq:
      - id: header
        type: page_header
      - id: extents
        type: free_extent
        repeat: expr
        repeat-expr: "left < 252 ? left : 252"
  free_extent:
    seq:
      - id: place
        type: u8
      - id: length
        type: u8
  directory_slot:
    params:
      - id: index
        type: u4
    seq:
      - id: header
        type: page_header
        if: is_written
      - id: body
        type: directory_body
        if: is_written
    instances:
      is_written:
        value: "(_root.space_list.head.directories_written[index / 8] >> (index % 8)) % 2 == 1"
  directory_body:
    seq:
      - id: entries
        type: directory_entry
        repeat: expr
        repeat-expr: 252
  directory_entry:
    seq:
      - id: place
        type: u8
      - id: generation
        type: u8
    instances:
      table:
        io: _root._io
        pos: place
        type: table_page
        size: _root.page_size
        if: place != 0
  table_page:
    seq:
      - id: header
        type: page_header
      - id: body
        type: table_body
  table_body:
    seq:
      - id: entries
        type: table_entry
        repeat: expr
        repeat-expr: 252
  table_entry:
    seq:
      - id: low
        type: u4
      - id: high
        type: u4
      - id: allocated
        type: u4
        doc: "data: sub-blocks that are stored; compressed: stored length in bytes"
      - id: zero
        type: u4
        doc: "data: sub-blocks that read as zero; compressed: CRC32C of the stored bytes"
    instances:
      kind:
        value: low % 16
        enum: block_kind
      place:
        value: high * 4294967296 + (low - low % 16)
      data:
        io: _root._io
        pos: place
        size: "place + _root.block_size <= _root._io.size ? _root.block_size : _root._io.size - place"
        if: kind == block_kind::data and place != 0
        doc: The file may end inside the block, behind its last stored sub-block.
      compressed:
        io: _root._io
        pos: place
        size: allocated
        if: kind == block_kind::compressed
  checksum_slot:
    seq:
      - id: header
        type: page_header
      - id: checksums
        type: u4
        repeat: expr
        repeat-expr: 1008
        if: header.is_page
        doc: CRC32C of what each block stores. A page none of whose blocks is stored may not have been written.
enums:
  state:
    1: clean
    2: dirty
  compression:
    0: none
    1: deflate
    2: zstd
  provisioning:
    0: thin
    1: lazy
    2: thick
  intent:
    0: none
    1: trim
    2: snapshot
    3: merge
    4: delete
  attribute_type:
    1: string
    2: integer
    3: boolean
  page_type:
    1: directory
    2: table
    3: space
    4: checksum
    5: journal
  block_kind:
    0: unallocated
    1: data
    2: compressed
    3: zero
