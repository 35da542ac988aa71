# The VIMS volume, version 1, for Kaitai Struct (https://kaitai.io). SPEC.md says what the structures mean and when
# they are valid; this file says where each byte is.
#
# It describes one device of a volume. An address that leads to another device is shown and not followed: `is_here` says
# which ones are. Everything that is in use on the device is found in `groups`, whoever it belongs to; `root_folder` leads
# to the same blocks by their names.
#
# Kaitai Struct computes no CRC32C. So this description takes the copy of the superblock with the higher generation, where
# a reader takes the one with the higher generation among those that are whole; a record of a journal is taken to be there
# when its first descriptor is; and blocks are shown as they are on the device, where a reader of a volume that was not
# left in order sees the journal's images over them.
#
# A u8 is exact up to 2^53 in JavaScript; addresses, sizes and generations never pass that. The time of the last change
# does, and is as exact as a number can be.
#
# Only block mappings, block sequences and scalars on one line are used: the test that compiles this file reads no
# other YAML.
meta:
  id: vims
  title: Volume of virtual machines' disks
  license: Apache-2.0
  ks-version: 0.10
  endian: le
  bit-endian: le
doc: A device of a file system for few and large files, with shared clusters and a journal of whole blocks.
instances:
  block_size:
    value: 4096
  cluster_size:
    value: 1048576
  superblock_0:
    pos: 0
    type: block
    size: block_size
    doc: Written last.
  device_record_block:
    pos: block_size
    type: block
    size: block_size
  superblock_2:
    pos: 2 * block_size
    type: block
    size: block_size
  superblock:
    value: "(superblock_0.header.generation > superblock_2.header.generation ? superblock_0 : superblock_2).body.as<superblock>"
    doc: Where both copies are whole.
  device_index:
    value: superblock.device_index
  clusters:
    value: superblock.device_table[device_index].clusters
    doc: Of this device.
  backup_clusters:
    value: "[1024, 4096, 16384, 65536, 262144]"
  backups:
    type: backup(backup_clusters[_index])
    repeat: expr
    repeat-expr: 5
  device_record:
    value: device_record_block.body.as<device_record>
  node_slots:
    pos: 4 * block_size
    type: node_slot
    size: 4 * block_size
    repeat: expr
    repeat-expr: 255
    if: device_index == 0
  groups:
    type: group_place(_index)
    repeat: expr
    repeat-expr: device_record.groups_ready
  root_folder:
    type: block_at(superblock.root)
types:
  uuid:
    doc: In the byte order of RFC 4122.
    seq:
      - id: bytes
        size: 16
  block_header:
    seq:
      - id: magic
        size: 4
        doc: VIMS; bytes here, for a block that was never written is zero
      - id: type
        type: u2
        enum: block_type
      - id: version
        type: u2
      - id: volume
        type: uuid
      - id: address
        type: u8
      - id: generation
        type: u8
      - id: owner
        type: u8
      - id: writer
        type: u2
      - id: reserved1
        type: u2
      - id: epoch
        type: u4
      - id: reserved2
        type: u4
      - id: crc
        type: u4
    instances:
      is_block:
        value: magic == [0x56, 0x49, 0x4d, 0x53]
  block:
    doc: Any block of metadata, or a place for one that was never written.
    seq:
      - id: header
        type: block_header
      - id: body
        size-eos: true
        type:
          switch-on: kind
          cases:
            block_type::superblock: superblock
            block_type::device_record: device_record
            block_type::slot: slot
            block_type::group: group
            block_type::counts: counts
            block_type::metadata_cluster: metadata_cluster
            block_type::inode: inode
            block_type::tree: tree
            block_type::directory: directory
            block_type::journal_header: journal_header
            block_type::journal_descriptor: journal_descriptor
    instances:
      kind:
        value: "header.is_block ? header.type : block_type::none"
    -webide-representation: "{kind}"
  block_at:
    doc: The block that an address leads to.
    params:
      - id: address
        type: u8
    instances:
      device:
        value: address / 1099511627776
      is_here:
        value: address != 0 and device == _root.device_index
      block:
        io: _root._io
        pos: address % 1099511627776 * _root.block_size
        type: block
        size: _root.block_size
        if: is_here
  superblock:
    seq:
      - id: incompatible
        type: u8
      - id: read_only_compatible
        type: u8
      - id: compatible
        type: u8
      - id: block_size
        type: u4
      - id: cluster_size
        type: u4
      - id: group_clusters
        type: u4
      - id: slots
        type: u2
      - id: devices
        type: u2
      - id: device_index
        type: u2
      - id: reserved1
        type: u2
      - id: heartbeat_ms
        type: u4
      - id: dead_threshold
        type: u4
      - id: idle_ms
        type: u4
      - id: root
        type: u8
      - id: created_ms
        type: u8
      - id: reserved2
        size: 120
      - id: device_table
        type: device_entry
        repeat: expr
        repeat-expr: 64
      - id: reserved3
        size: 1792
  device_entry:
    seq:
      - id: uuid
        type: uuid
      - id: clusters
        type: u8
      - id: reserved
        type: u8
  backup:
    params:
      - id: cluster
        type: u8
    instances:
      is_here:
        value: cluster < _root.clusters
      superblock:
        io: _root._io
        pos: cluster * _root.cluster_size
        type: block
        size: _root.block_size
        if: is_here
  device_record:
    seq:
      - id: groups_ready
        type: u4
  node_slot:
    doc: The blocks of a node. The first three are not in use yet.
    seq:
      - id: heartbeat
        type: block
        size: _root.block_size
      - id: eviction
        type: block
        size: _root.block_size
      - id: ballot
        type: block
        size: _root.block_size
      - id: slot_block
        type: block
        size: _root.block_size
    instances:
      is_written:
        value: slot_block.kind == block_type::slot
      slot:
        value: slot_block.body.as<slot>
        if: is_written
      journal:
        type: journal(slot.journal, slot.journal_clusters)
        if: is_written and slot.journal != 0
      orphans:
        type: block_at(slot.orphans)
        if: is_written
  slot:
    seq:
      - id: state
        type: u4
        enum: slot_state
      - id: journal_clusters
        type: u4
      - id: journal
        type: u8
        doc: A cluster address. It is on device 0.
      - id: orphans
        type: u8
      - id: attached_ms
        type: u8
      - id: incarnation
        type: u8
      - id: host
        size: 64
        type: str
        encoding: ASCII
        terminator: 0
  group_place:
    params:
      - id: index
        type: u4
    instances:
      first_cluster:
        value: 4 + index * 8064
      header_block:
        io: _root._io
        pos: first_cluster * _root.cluster_size
        type: block
        size: _root.block_size
      header:
        value: header_block.body.as<group>
      counts:
        io: _root._io
        pos: first_cluster * _root.cluster_size + _root.block_size
        type: block
        size: _root.block_size
        repeat: expr
        repeat-expr: 4
      clusters:
        type: "cluster_place(first_cluster + _index, counts[_index / 2016].body.as<counts>.counts[_index % 2016])"
        repeat: expr
        repeat-expr: header.clusters
  group:
    seq:
      - id: index
        type: u4
      - id: clusters
        type: u4
      - id: free_clusters
        type: u4
      - id: free_blocks
        type: u4
      - id: delegate
        type: u4
      - id: reserved
        type: u4
      - id: bitmap
        size: 32
        doc: Of the group's first cluster.
  counts:
    seq:
      - id: counts
        type: u2
        repeat: expr
        repeat-expr: 2016
  metadata_cluster:
    seq:
      - id: bitmap
        size: 32
  cluster_place:
    doc: A cluster of a group and what is in it, if that is metadata.
    params:
      - id: cluster
        type: u8
        doc: Its number on the device.
      - id: count
        type: u2
    instances:
      is_free:
        value: count == 0
      is_system:
        value: count == 65534
      is_metadata:
        value: count == 65535
      first_block:
        io: _root._io
        pos: cluster * _root.cluster_size
        type: block
        size: _root.block_size
        if: is_metadata
      bitmap:
        value: "first_block.kind == block_type::group ? first_block.body.as<group>.bitmap : first_block.body.as<metadata_cluster>.bitmap"
        if: is_metadata
      blocks:
        io: _root._io
        pos: cluster * _root.cluster_size
        type: "block_place((bitmap[_index / 8] >> (_index % 8)) % 2 == 1)"
        size: _root.block_size
        repeat: expr
        repeat-expr: 256
        if: is_metadata
  block_place:
    params:
      - id: is_used
        type: bool
    seq:
      - id: block
        type: block
        size-eos: true
        if: is_used
  inode:
    seq:
      - id: kind
        type: u1
        enum: inode_kind
      - id: content
        type: u1
        enum: inode_content
      - id: depth
        type: u1
      - id: hash_bits
        type: u1
      - id: links
        type: u4
      - id: size
        type: u8
      - id: birth
        type: u8
      - id: modified_ns
        type: u8
      - id: clusters
        type: u8
      - id: entries
        type: u4
      - id: seed
        type: u4
      - id: parent
        type: u8
      - id: reserved
        size: 72
    instances:
      inline_bytes:
        pos: 128
        size: size
        if: content == inode_content::inline and kind == inode_kind::file
      names:
        pos: 128
        type: names
        size: size
        if: content == inode_content::inline and kind == inode_kind::folder
      cluster_map:
        pos: 128
        type: cluster_entry
        repeat: expr
        repeat-expr: 488
        if: content == inode_content::tree and kind == inode_kind::file and depth == 0
      pointers:
        pos: 128
        type: pointer
        repeat: expr
        repeat-expr: 488
        if: content == inode_content::tree and (kind == inode_kind::folder or depth > 0)
        doc: To tree blocks; with depth 0, to the buckets of a folder.
  tree:
    doc: Above the leaves it has pointers to tree blocks. A leaf has the map of a file, or pointers to a folder's buckets.
    seq:
      - id: level
        type: u4
      - id: reserved
        type: u4
      - id: first
        type: u8
    instances:
      cluster_map:
        pos: 16
        type: cluster_entry
        repeat: expr
        repeat-expr: 502
        if: level == 0
        doc: Where the owner is a file.
      pointers:
        pos: 16
        type: pointer
        repeat: expr
        repeat-expr: 502
        doc: Elsewhere.
  pointer:
    seq:
      - id: address
        type: u8
    instances:
      target:
        type: block_at(address)
  cluster_entry:
    seq:
      - id: cluster
        type: u4
        doc: Its number on its device.
      - id: device
        type: u1
      - id: flags
        type: u1
        doc: The highest bit says that other files may use the cluster; the others are zero.
      - id: written
        type: u2
        doc: Pieces of 64 KiB that were written, the lowest bit for the first.
    instances:
      address:
        value: device * 4294967296 + cluster
      is_shared:
        value: flags >= 128
      is_here:
        value: address != 0 and device == _root.device_index
      data:
        io: _root._io
        pos: cluster * _root.cluster_size
        size: _root.cluster_size
        if: is_here
        doc: Pieces that were not written read as zeroes, whatever is here.
  directory:
    seq:
      - id: bits
        type: u4
      - id: entries
        type: u4
      - id: used
        type: u4
      - id: pattern
        type: u4
      - id: names
        type: names
        size: used
  names:
    seq:
      - id: names
        type: name
        repeat: eos
  name:
    seq:
      - id: inode
        type: u8
      - id: hash
        type: u4
        doc: CRC32C of the name, continued from the folder's seed.
      - id: kind
        type: u1
        enum: inode_kind
      - id: length
        type: u1
      - id: name
        size: length
        type: str
        encoding: UTF-8
    instances:
      target:
        type: block_at(inode)
  journal:
    params:
      - id: cluster
        type: u8
      - id: clusters
        type: u4
    instances:
      header_block:
        io: _root._io
        pos: cluster * _root.cluster_size
        type: block
        size: _root.block_size
      header:
        value: header_block.body.as<journal_header>
      ring:
        io: _root._io
        pos: cluster * _root.cluster_size + _root.block_size
        type: block
        size: _root.block_size
        repeat: expr
        repeat-expr: header.blocks - 1
        doc: All that is in it, whether it counts or not.
      oldest:
        type: record(cluster * 256, header.blocks, header.position, header.sequence)
        doc: The first of those that must be replayed, if it is there.
  journal_header:
    seq:
      - id: sequence
        type: u8
      - id: position
        type: u4
      - id: blocks
        type: u4
  journal_descriptor:
    seq:
      - id: images
        type: u4
      - id: first
        type: u4
      - id: reserved
        type: u8
      - id: addresses
        type: u8
        repeat: expr
        repeat-expr: "images - first < 502 ? images - first : 502"
        doc: Where the images belong.
  record:
    params:
      - id: start
        type: u8
        doc: Block 0 of the journal.
      - id: blocks
        type: u4
      - id: position
        type: u4
      - id: sequence
        type: u8
    instances:
      head:
        type: ring_block(start, blocks, position)
      is_there:
        value: head.block.kind == block_type::journal_descriptor and head.block.header.generation == sequence
      image_count:
        value: "is_there ? head.block.body.as<journal_descriptor>.images : 0"
      descriptor_count:
        value: (image_count + 501) / 502
      descriptors:
        type: ring_block(start, blocks, position + _index)
        repeat: expr
        repeat-expr: descriptor_count
      images:
        type: ring_block(start, blocks, position + descriptor_count + _index)
        repeat: expr
        repeat-expr: image_count
      next:
        type: "record(start, blocks, (position - 1 + descriptor_count + image_count) % (blocks - 1) + 1, sequence + 1)"
        if: is_there
  ring_block:
    doc: Behind the last block of a journal follows block 1.
    params:
      - id: start
        type: u8
      - id: blocks
        type: u4
      - id: position
        type: u4
    instances:
      block:
        io: _root._io
        pos: (start + (position - 1) % (blocks - 1) + 1) * _root.block_size
        type: block
        size: _root.block_size
  undo_file:
    doc: What a repair overwrote, in a file of its own. A record that is not whole, and all behind it, do not count.
    seq:
      - id: head
        type: undo_head
      - id: records
        type: undo_record
        repeat: eos
  undo_head:
    seq:
      - id: magic
        size: 8
        type: str
        encoding: ASCII
        doc: VIMSUNDO
      - id: version
        type: u4
      - id: crc
        type: u4
      - id: volume
        type: uuid
      - id: devices
        type: u4
      - id: slot_crc
        type: u4
      - id: reserved
        type: u8
  undo_record:
    seq:
      - id: offset
        type: u8
        doc: On the device.
      - id: length
        type: u4
      - id: crc
        type: u4
      - id: device
        type: u4
      - id: reserved
        type: u4
      - id: bytes
        size: length
        doc: What was there.
enums:
  block_type:
    0: none
    1: superblock
    2: device_record
    3: heartbeat
    4: eviction
    5: ballot
    6: slot
    7: group
    8: counts
    9: metadata_cluster
    10: inode
    11: tree
    12: directory
    13: journal_header
    14: journal_descriptor
  slot_state:
    0: free
    1: attached
    2: detached
  inode_kind:
    1: file
    2: folder
  inode_content:
    0: inline
    1: tree
