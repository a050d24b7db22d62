package generations_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		fmt.Println(commitForEver(dir))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}
