// Driver for franz-go. The command line is described in tests/src/records.rs.
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"log"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const alphabet = "abcdefghijklmnopqrstuvwxyz234567"

var (
	bootstrap  = flag.String("bootstrap", "", "host:port")
	topic      = flag.String("topic", "", "topic")
	partitions = flag.Int("partitions", 1, "partitions of the topic")
	count      = flag.Int("count", 0, "records")
	seed       = flag.Int64("seed", 0, "seed of the records")
	codec      = flag.String("codec", "none", "compression")
	idempotent = flag.String("idempotent", "false", "true or false")
	group      = flag.String("group", "", "consumer group")
)

type at struct {
	partition int32
	offset    int64
}

func main() {
	mode := os.Args[1]
	if err := flag.CommandLine.Parse(os.Args[2:]); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	switch mode {
	case "produce":
		produce(ctx)
	case "consume":
		from := map[int32]kgo.Offset{}
		for p := int32(0); p < int32(*partitions); p++ {
			from[p] = kgo.NewOffset().At(0)
		}
		client := open(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{*topic: from}))
		report(read(ctx, client))
		client.Close()
	case "group":
		client := open(kgo.ConsumerGroup(*group), kgo.ConsumeTopics(*topic), kgo.DisableAutoCommit(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		lines := read(ctx, client)
		ends := map[int32]kgo.EpochOffset{}
		for a := range lines {
			if a.offset >= ends[a.partition].Offset {
				ends[a.partition] = kgo.EpochOffset{Epoch: -1, Offset: a.offset + 1}
			}
		}
		commit(ctx, client, ends)
		client.LeaveGroup()
		client.Close()
		report(lines)
	default:
		log.Fatalf("unknown mode %q", mode)
	}
}

func open(options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(*bootstrap))...)
	if err != nil {
		log.Fatal(err)
	}
	return client
}

func produce(ctx context.Context) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	options := []kgo.Opt{
		kgo.ProducerBatchCompression(codecs[*codec]),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(5 * time.Millisecond),
	}
	if *idempotent != "true" {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client := open(options...)
	for index := 0; index < *count; index++ {
		client.Produce(ctx, record(*seed, int64(index)), func(_ *kgo.Record, err error) {
			if err != nil {
				log.Fatal(err)
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	client.Close()
	fmt.Printf("count=%d\n", *count)
}

func record(seed, index int64) *kgo.Record {
	r := &kgo.Record{
		Topic:     *topic,
		Partition: int32(index % int64(*partitions)),
		Timestamp: time.UnixMilli(1_700_000_000_000 + seed*1000 + index*7),
	}
	if index%13 != 0 {
		r.Key = []byte(fmt.Sprintf("k%d-%d", seed, index))
	}
	if index%97 != 0 || index%13 == 0 {
		state := uint64(seed)*1_000_003 + uint64(index)
		r.Value = make([]byte, 1+index*7%400)
		for i := range r.Value {
			state = state*6364136223846793005 + 1442695040888963407
			r.Value[i] = alphabet[state>>59]
		}
	}
	if index%5 != 0 {
		r.Headers = []kgo.RecordHeader{
			{Key: "seed", Value: []byte(fmt.Sprint(seed))},
			{Key: "index", Value: []byte(fmt.Sprint(index))},
		}
	}
	return r
}

func read(ctx context.Context, client *kgo.Client) map[at]string {
	lines := map[at]string{}
	for len(lines) < *count {
		fetches := client.PollRecords(ctx, *count-len(lines))
		if ctx.Err() != nil {
			log.Fatalf("read %d of %d records in 60 s", len(lines), *count)
		}
		fetches.EachError(func(_ string, p int32, err error) { log.Fatalf("partition %d: %v", p, err) })
		fetches.EachRecord(func(r *kgo.Record) { lines[at{r.Partition, r.Offset}] = line(r) })
	}
	return lines
}

func line(r *kgo.Record) string {
	text := func(b []byte) string {
		if b == nil {
			return "-"
		}
		return string(b)
	}
	var headers []string
	for _, h := range r.Headers {
		headers = append(headers, h.Key+"="+string(h.Value))
	}
	return fmt.Sprintf("%d\t%d\t%d\t%s\t%s\t%s\n", r.Partition, r.Offset, r.Timestamp.UnixMilli(),
		text(r.Key), text(r.Value), strings.Join(headers, ","))
}

func commit(ctx context.Context, client *kgo.Client, ends map[int32]kgo.EpochOffset) {
	client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{*topic: ends},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
			if err != nil {
				log.Fatal(err)
			}
			for _, t := range answer.Topics {
				for _, p := range t.Partitions {
					if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
						log.Fatal(err)
					}
				}
			}
		})
}

func report(lines map[at]string) {
	order := make([]at, 0, len(lines))
	for a := range lines {
		order = append(order, a)
	}
	sort.Slice(order, func(i, j int) bool {
		if order[i].partition != order[j].partition {
			return order[i].partition < order[j].partition
		}
		return order[i].offset < order[j].offset
	})
	digest := sha256.New()
	var ranges []string
	for i := 0; i < len(order); {
		j := i
		for ; j < len(order) && order[j].partition == order[i].partition; j++ {
			digest.Write([]byte(lines[order[j]]))
		}
		ranges = append(ranges, fmt.Sprintf("%d:%d-%d", order[i].partition, order[i].offset, order[j-1].offset+1))
		i = j
	}
	fmt.Printf("count=%d ranges=%s sha256=%x\n", len(order), strings.Join(ranges, ","), digest.Sum(nil))
}
