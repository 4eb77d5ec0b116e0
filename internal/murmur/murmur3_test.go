package murmur

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
)

// sums128 are what Kafka Streams' Murmur3.hash128 makes of inputs of 0, 1, 2, ... bytes.
var sums128 = []string{
	"9d2764a018e329428c3cf3b035938518",
	"c115fef0c63412b844a0a3d61cd7d98f",
	"ff3fd24006708c34de022ad5835c64ae",
	"4a6c803703815f4a985460f5ea9a2608",
	"75656a10a5788e7320bde40238921560",
	"0b92e76371229c35cf5bcf3a9f70c3d2",
	"94e8bf7c60257c23cf752b38b7dc2eac",
	"366555911d0890c57ef273fdd851fbad",
	"d60e17c3a49473c125766d563eee9836",
	"918627640844fd4e093f8ebf4b79480f",
	"39efc9d0dd8ed037c02043952600bff4",
	"68ea21e195d912732aca57af6911db8e",
	"786b76ee748104c767198f3a31468feb",
	"2447eb4f9f3e3daf20beb1b5d1e87656",
	"7e2b40c249325c2acdb377626fa53c66",
	"bf35c3ecb358de00d1122af585ad5566",
	"62530fd349288dd1f1688d5808ebb02d",
	"aed187c5bf951ffc872ff69ad71e7cc8",
	"9812c5c83097c730f610cf900c653a34",
	"60fe54d8ee9e4f88848a94f3a5c0f40c",
	"38f0dcf509c2fa0654414b5f97ce2105",
	"161aa8b39e87d7b1f4d5cdd2571e25e1",
	"a0f01bb56f408aa107223c403cea21c5",
	"16e1e0bb4c4fb8ed49d3ff00f39a7fca",
	"9f25948746923cb75732d714601f6ea6",
	"b8b09bce10b84cf187a447b98772afdb",
	"0984402d8eb8ce0d633fd67e3ceee078",
	"da2b1ed465d5de488ec8a4f942344e85",
	"a313d0801dd5291fa4ccf57313bf577a",
	"792d15f942f3acd5f7e039aec59d5f57",
	"770e1ee7f77fba4709b2bd66eab96810",
	"c831c241b553c94a9056c7f3046e8d94",
	"403a81c6e156a1b65fea7c1c2b87ebf6",
	"dcc603709f52978cb088bec9a7324cfe",
	"95a31a0d9e008f1c0c372fb83012ae4e",
	"d41e306b3729c5cebd6e37163ea5289d",
	"2cedb6d14943d6878b961935513481d2",
	"32f5d2443e08ed7c61b8e492d22023c5",
	"ba9fca03204f442affc0fcb739ec212c",
	"36896f1b741759dd06ac753e7175edb8",
}

func TestSum128IsThatOfKafkaStreams(t *testing.T) {
	for n, want := range sums128 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i*37 + n*11 + 200)
		}
		got := Sum128(b)
		require.Equal(t, want, hex.EncodeToString(got[:]), "%d bytes", n)
	}
}
